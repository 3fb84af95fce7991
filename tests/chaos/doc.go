// Package chaos holds the tests that kill, cut and drop while rows travel, and
// then count them in the databases. Each keeps its ledger outside the fault
// domain, writes into a target without a unique index so that a doubled row
// shows, and prints its seed. Each safety has a run without it that must fail.
package chaos
