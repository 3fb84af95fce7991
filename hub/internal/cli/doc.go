// Package cli is the command line of `ropeway`, for builders and operators at
// their own desk: commands, output forms and exit codes. It does nothing itself;
// everything goes through the REST API by package client.
package cli
