// Command ropeway-agent carries data between the systems of a site and a Ropeway
// hub. It owns nothing: agent/internal/cli is its command line, agent its parts.
package main

import (
	"context"
	"os"

	"ropeway/agent/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Std()))
}
