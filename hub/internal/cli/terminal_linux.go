package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminal reports whether a stream is one. /dev/null is none.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
