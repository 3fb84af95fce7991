package gateway_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// puppet is the program of agent/internal/uplink/testdata/puppet: the agent's
// uplink cannot be imported here, so it runs as what it is, another process.
var puppet string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gateway")
	if err != nil {
		panic(err)
	}
	puppet = filepath.Join(dir, "puppet")
	out, err := exec.Command("go", "build", "-o", puppet, "ropeway/agent/internal/uplink/testdata/puppet").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build puppet: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.RemoveAll(dir)
	os.Exit(code)
}
