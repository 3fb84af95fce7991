package rig

import (
	"context"
	"fmt"
	"os"
)

// Main builds the programs once for a test binary, runs its tests and removes
// the programs again; it returns the exit code for TestMain.
func Main(m interface{ Run() int }, bins *Bins) int {
	dir, err := os.MkdirTemp("", "ropeway-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		*bins, err = Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
