// Package testenv starts the real servers that tests, benchmarks and the demo
// run against, each on a private port and directory, and sees to it that
// nothing is left of them. It does not know Ropeway.
package testenv
