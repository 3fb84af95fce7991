package agent

import "ropeway/protocol/control"

// Version is that of this program, as the build stamped it.
func Version() string { return control.Version }
