package request

import "time"

// Limits bound one request. The zero value of a field means its default
// (DELIVERY §1.1, §9).
type Limits struct {
	Pages        int           // pages of a keyed read; 16
	Time         time.Duration // of a keyed read, but never before its first page; 10 s
	PageRecords  int           // records of a page; 5,000
	PageBytes    int           // codec bytes after which a page is full; 1 MiB
	PageMaxBytes int           // codec bytes of a page at most; 4 MiB
}

// Defaults are the limits of DELIVERY §9.
func Defaults() Limits {
	return Limits{
		Pages:        16,
		Time:         10 * time.Second,
		PageRecords:  5000,
		PageBytes:    1 << 20,
		PageMaxBytes: 4 << 20,
	}
}

func (l Limits) withDefaults() Limits {
	d := Defaults()
	if l.Pages <= 0 {
		l.Pages = d.Pages
	}
	if l.Time <= 0 {
		l.Time = d.Time
	}
	if l.PageRecords <= 0 {
		l.PageRecords = d.PageRecords
	}
	if l.PageBytes <= 0 {
		l.PageBytes = d.PageBytes
	}
	if l.PageMaxBytes <= 0 {
		l.PageMaxBytes = d.PageMaxBytes
	}
	return l
}
