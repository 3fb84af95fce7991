package connectors

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

// The modes of an import.
const (
	Insert = "insert" // a record whose key is there already is a duplicate
	Update = "update" // a record whose key is not there is missing
	Upsert = "upsert" // insert or update, by key
	Delete = "delete" // by key; a key that is not there is done already
)

// The words of ImportSpec.Inbox.
const (
	InboxAuto  = "auto" // as true where the system has transactions
	InboxTrue  = "true"
	InboxFalse = "false"
)

// An ImportSpec says how records are written. The JSON keys are those of the
// manifest.
type ImportSpec struct {
	Table       string      `json:"table,omitempty"` // "table" or "schema.table"
	Mode        string      `json:"mode,omitempty"`  // "" = insert
	Key         []string    `json:"key,omitempty"`
	Inbox       string      `json:"inbox,omitempty"` // auto, true or false; "" = auto
	FieldErrors FieldErrors `json:"fieldErrors,omitzero"`
}

// FieldErrors says what to do when the target names an offending field.
type FieldErrors struct {
	// Remove lists the fields without which a record is tried once more; "*"
	// means any. Key fields are never removed.
	Remove []string
}

// IsZero reports whether nothing is to be removed.
func (f FieldErrors) IsZero() bool { return len(f.Remove) == 0 }

// Removes reports whether field may be left out.
func (f FieldErrors) Removes(field string) bool {
	return field != "" && (slices.Contains(f.Remove, field) || slices.Contains(f.Remove, "*"))
}

type fieldErrorsJSON struct {
	Remove json.RawMessage `json:"remove"`
}

// MarshalJSON writes {"remove": [...]}.
func (f FieldErrors) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string][]string{"remove": f.Remove})
}

// UnmarshalJSON reads {"remove": [...]} and {"remove": "*"}.
func (f *FieldErrors) UnmarshalJSON(b []byte) error {
	var raw fieldErrorsJSON
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("read fieldErrors: %w", err)
	}
	f.Remove = nil
	if len(raw.Remove) == 0 {
		return nil
	}
	if string(raw.Remove) == `"*"` {
		f.Remove = []string{"*"}
		return nil
	}
	if err := json.Unmarshal(raw.Remove, &f.Remove); err != nil {
		return fmt.Errorf("read fieldErrors.remove: %w", err)
	}
	return nil
}

// Normal returns the spec with its defaults filled in, or says what is wrong
// with it.
func (s ImportSpec) Normal() (ImportSpec, error) {
	if s.Mode == "" {
		s.Mode = Insert
	}
	if s.Inbox == "" {
		s.Inbox = InboxAuto
	}
	switch {
	case s.Table == "":
		return s, badImport("it names no table")
	case !slices.Contains([]string{Insert, Update, Upsert, Delete}, s.Mode):
		return s, badImport(fmt.Sprintf("unknown mode %q; use insert, update, upsert or delete", s.Mode))
	case !slices.Contains([]string{InboxAuto, InboxTrue, InboxFalse}, s.Inbox):
		return s, badImport(fmt.Sprintf("unknown inbox %q; use auto, true or false", s.Inbox))
	case s.Mode != Insert && len(s.Key) == 0:
		return s, badImport("mode " + s.Mode + " needs a key")
	}
	for i, k := range s.Key {
		if k == "" || strings.ContainsRune(k, 0) || slices.Contains(s.Key[:i], k) {
			return s, badImport(fmt.Sprintf("key has an empty or repeated name %q", k))
		}
	}
	return s, nil
}

func badImport(cause string) error {
	return fault.Of("E_QUERY").WithSentence("the import is not valid").WithCause(cause)
}

// A Batch is one page to import, opened.
type Batch struct {
	Page    string    // its name
	Step    string    // the step that imports it
	Payload []byte    // codec bytes, uncompressed; the connector only reads them
	Records int       // in Payload
	Created time.Time // of the page
}

// An Answer says what became of the records of a batch. Applied and the
// failures add up to the records of the batch.
type Answer struct {
	// Already means that the page had been applied before; the rest is the
	// answer of then.
	Already bool `json:"already,omitempty"`
	// Applied counts the records that took effect, degraded ones included.
	Applied int `json:"applied"`
	// Failed holds one entry per record that did not, in ascending order.
	Failed []Failure `json:"failed,omitempty"`
	// Degraded holds the records that took effect without a field, in
	// ascending order (ImportSpec.FieldErrors).
	Degraded []Failure `json:"degraded,omitempty"`
	// Inbox means that the page's inbox row was written with the data.
	Inbox bool `json:"inbox,omitempty"`
}

// A Failure is the fault of one record, by its index in the batch.
type Failure struct {
	Index int          `json:"index"`
	Fault *fault.Error `json:"fault"`
}
