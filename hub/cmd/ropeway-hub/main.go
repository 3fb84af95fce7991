// Command ropeway-hub is the cloud side of Ropeway. See `ropeway-hub --help`;
// everything it does is in package operator and package hub.
package main

import (
	"os"

	"ropeway/hub/internal/operator"
)

func main() { os.Exit(operator.Main(os.Args[1:], os.Stdout, os.Stderr)) }
