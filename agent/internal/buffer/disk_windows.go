package buffer

import "golang.org/x/sys/windows"

// quotaOf is the default quota: 2 GiB or a tenth of the disk.
func quotaOf(dir string) int64 {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return defaultQuota
	}
	var free, total, allFree uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, &allFree); err != nil {
		return defaultQuota
	}
	return min(defaultQuota, int64(total/10))
}

// syncDir does nothing: NTFS journals names by itself.
func syncDir(string) error { return nil }
