package sqldb

import (
	"encoding/json"
	"fmt"
	"slices"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// InboxName is the table that remembers which pages were applied.
const InboxName = "ropeway_inbox"

// An Inbox builds the statements of the inbox protocol (DELIVERY §4): the row
// is inserted first, in the transaction of the data, so that of two executors
// of one page the second waits for the first and then finds the row.
type Inbox struct {
	Table       Table
	Placeholder string // "$" or "?"
	TimeType    string // the system's type for a point in time
	Now         string // the system's expression for now
}

// Script makes the table; it is also what an administrator runs where the
// role may not.
func (i Inbox) Script() string {
	return "CREATE TABLE IF NOT EXISTS " + i.Table.String() +
		" (page text NOT NULL, step text NOT NULL, result text NOT NULL, at " + i.TimeType +
		" NOT NULL, PRIMARY KEY (page, step))"
}

// Insert binds page, step, result. It changes no row when the page is there.
func (i Inbox) Insert() string {
	p := i.Placeholder
	return "INSERT INTO " + i.Table.String() + " (page, step, result, at) VALUES (" +
		p + "1, " + p + "2, " + p + "3, " + i.Now + ") ON CONFLICT (page, step) DO NOTHING"
}

// Result binds page, step and selects the answer.
func (i Inbox) Result() string {
	p := i.Placeholder
	return "SELECT result FROM " + i.Table.String() + " WHERE page = " + p + "1 AND step = " + p + "2"
}

// Correct binds page, step, result: the answer that was written first turned
// out to be too good.
func (i Inbox) Correct() string {
	p := i.Placeholder
	return "UPDATE " + i.Table.String() + " SET result = " + p + "3 WHERE page = " + p +
		"1 AND step = " + p + "2"
}

// NotAllowed is the fault of a role that may not make or use the table.
func (i Inbox) NotAllowed(source, cause string) *fault.Error {
	return InboxNotAllowed(source, cause, i.Script())
}

// InboxNotAllowed is the fault of a role that may not make or use the table
// that script makes.
func InboxNotAllowed(source, cause, script string) *fault.Error {
	return fault.Of("E_PERMISSION").WithSource(source).
		WithSentence("the inbox table is missing and the role may not make it").WithCause(cause).
		WithFix(fmt.Sprintf("run this as an administrator, grant the role INSERT, SELECT and UPDATE "+
			"on it, then resume the job: %s; or set `inbox: false` and accept a weaker guarantee", script))
}

// EncodeAnswer writes an answer for the inbox.
func EncodeAnswer(a connectors.Answer) (string, error) {
	b, err := json.Marshal(a)
	return string(b), err
}

// DecodeAnswer reads the answer of a page that was applied before.
func DecodeAnswer(text string) (connectors.Answer, error) {
	var a connectors.Answer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, fault.Of("E_INTERNAL").WithCause("the inbox row holds no answer").Wrap(err)
	}
	a.Already = true
	return a, nil
}

// ImportsOnce is the guarantee of every SQL connector with an inbox.
func ImportsOnce(spec connectors.ImportSpec) connectors.Guarantee {
	spec, _ = spec.Normal()
	switch {
	case spec.Inbox != connectors.InboxFalse:
		return connectors.Guarantee{Level: connectors.ExactlyOnce,
			Reason: "each page and its row in " + InboxName + " are one transaction of the target"}
	case spec.Mode == connectors.Insert:
		return connectors.Guarantee{Level: connectors.AtLeastOnce,
			Reason: "inserts without an inbox: a page whose answer is lost is inserted again"}
	}
	return connectors.Guarantee{Level: connectors.EffectivelyOnce,
		Reason: spec.Mode + " by key without an inbox: applying a page again changes nothing"}
}

func sortByIndex(list []connectors.Failure) {
	slices.SortFunc(list, func(a, b connectors.Failure) int { return a.Index - b.Index })
}
