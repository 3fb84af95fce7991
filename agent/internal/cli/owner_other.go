//go:build !unix

package cli

// actAsOwner does nothing: here an administrator's files carry their own rights.
func actAsOwner(string) error { return nil }
