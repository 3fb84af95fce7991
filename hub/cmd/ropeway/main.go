// Command ropeway is the client of a Ropeway hub. It owns nothing but its
// version; package cli does the work.
package main

import (
	"os"

	"ropeway/hub/internal/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(cli.Main(version, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
