package store

import (
	"fmt"

	"ropeway/protocol/fault"
)

const source = "hub"

// superseded tells a stale owner or an old execution to stop and drop its work.
func superseded(why string) *fault.Error {
	return fault.Of("E_SUPERSEDED").WithSource(source).WithCause(why)
}

func conflict(format string, args ...any) *fault.Error {
	return fault.Of("E_PAGE_CONFLICT").WithSource(source).WithCause(fmt.Sprintf(format, args...))
}

// totalsWrong: the end marker disagrees with what was accepted.
func totalsWrong(format string, args ...any) *fault.Error {
	return fault.New(fault.Internal, "E_TOTALS",
		"the end of the export does not agree with the pages that were accepted").
		WithFix("run the flow again; report it with the log of hub and agent").
		WithSource(source).WithCause(fmt.Sprintf(format, args...))
}

// sumOpen: everything is settled and the sum of the job does not close.
func sumOpen(why string) *fault.Error {
	return fault.New(fault.Internal, "E_SUM_OPEN", "every page is settled but the sum does not close").
		WithFix("look at `ropeway prove` for the step that is open, and report it").
		WithSource(source).WithCause(why)
}

func notFound(what, name string) *fault.Error {
	return fault.Of("E_NOT_FOUND").WithSource(source).
		WithSentence(fmt.Sprintf("there is no %s %s", what, name))
}

func stateConflict(format string, args ...any) *fault.Error {
	return fault.Of("E_STATE_CONFLICT").WithSource(source).WithSentence(fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) *fault.Error {
	return fault.Of("E_REQUEST").WithSource(source).WithCause(fmt.Sprintf(format, args...))
}
