package connectors

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"ropeway/protocol/fault"
)

// A Query says what to read: free text in the system's own language, or a
// table with columns and conditions, from which the connector builds the
// statement. The JSON keys are those of the manifest.
type Query struct {
	SQL      string   `json:"query,omitempty"`
	Table    string   `json:"table,omitempty"`    // "table" or "schema.table"
	Columns  []string `json:"columns,omitempty"`  // none = all
	Where    Where    `json:"where,omitzero"`     // only with Table
	Key      []string `json:"key,omitempty"`      // unique together; none = one stream, not resumable
	PageSize int      `json:"pageSize,omitempty"` // records of a page at most; 0 = the limit
}

// Resumable reports whether the read can go on from a cursor.
func (q Query) Resumable() bool { return len(q.Key) > 0 }

// Validate refuses a query that no connector could run. What only the system
// can know (does the table exist?) is found out by Read.
func (q Query) Validate() error {
	switch {
	case q.SQL == "" && q.Table == "":
		return badQuery("it names neither a query nor a table")
	case q.SQL != "" && q.Table != "":
		return badQuery("it names both a query and a table")
	case q.SQL != "" && (len(q.Columns) > 0 || !q.Where.IsZero()):
		return badQuery("columns and where go with a table, not with a query")
	case q.PageSize < 0:
		return badQuery("pageSize is negative")
	}
	if err := distinct("columns", q.Columns); err != nil {
		return err
	}
	if err := distinct("key", q.Key); err != nil {
		return err
	}
	return q.Where.validate()
}

func distinct(what string, names []string) error {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		switch {
		case n == "":
			return badQuery(what + " has an empty name")
		case strings.ContainsRune(n, 0):
			return badQuery(what + " has a name with a NUL character")
		case seen[n]:
			return badQuery(fmt.Sprintf("%s names %q twice", what, n))
		}
		seen[n] = true
	}
	return nil
}

// Where is a condition on rows: a free text in the system's own language, or
// conditions of which all must hold. In JSON it is a string or a list.
type Where struct {
	SQL string
	All []Condition
}

// A Condition compares one column. Op is one of =, <>, <, <=, >, >=, in,
// like, is null, is not null. Value is a JSON value: a scalar, a list for
// "in", nothing for the last two. It is always bound, never pasted.
type Condition struct {
	Column string          `json:"column"`
	Op     string          `json:"op"`
	Value  json.RawMessage `json:"value,omitempty"`
}

// IsZero reports whether there is no condition.
func (w Where) IsZero() bool { return w.SQL == "" && len(w.All) == 0 }

// MarshalJSON writes the form that was given.
func (w Where) MarshalJSON() ([]byte, error) {
	if w.SQL != "" {
		return json.Marshal(w.SQL)
	}
	return json.Marshal(w.All)
}

// UnmarshalJSON reads a string or a list of conditions.
func (w *Where) UnmarshalJSON(b []byte) error {
	*w = Where{}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &w.SQL)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&w.All); err != nil {
		return fmt.Errorf("read where: %w", err)
	}
	return nil
}

// Operators lists the words that Condition.Op may be.
func Operators() []string {
	return []string{"=", "<>", "<", "<=", ">", ">=", "in", "like", "is null", "is not null"}
}

const maxConditions = 100

func (w Where) validate() error {
	if len(w.All) > maxConditions {
		return badQuery(fmt.Sprintf("where has more than %d conditions", maxConditions))
	}
	for _, c := range w.All {
		if err := c.validate(); err != nil {
			return badQuery("where: " + err.Error())
		}
	}
	return nil
}

func (c Condition) validate() error {
	switch c.Op {
	case "is null", "is not null":
		if len(c.Value) > 0 && string(c.Value) != "null" {
			return fmt.Errorf("%q takes no value", c.Op)
		}
	case "in":
		if len(c.Value) == 0 || c.Value[0] != '[' {
			return errors.New(`"in" takes a list of values`)
		}
	case "=", "<>", "<", "<=", ">", ">=", "like":
		if len(c.Value) == 0 || strings.ContainsRune("[{n", rune(c.Value[0])) {
			return fmt.Errorf("%q takes a text, a number or a boolean", c.Op)
		}
	default:
		return fmt.Errorf("unknown operator %q; use one of %s", c.Op,
			strings.Join(Operators(), ", "))
	}
	if c.Column == "" {
		return errors.New("a condition names no column")
	}
	return nil
}

func badQuery(cause string) error {
	return fault.Of("E_QUERY").WithCause(cause)
}
