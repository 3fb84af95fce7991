package fault

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// MaxText bounds each text of an error that comes from outside, in bytes;
// longer texts are cut.
const MaxText = 4096

// MaxJSON bounds the JSON form of an error that comes from outside, in bytes.
const MaxJSON = 256 << 10

const maxCode = 64

// wire is the JSON form. The wrapped error has no place in it.
type wire struct {
	Code         string `json:"code"`
	Class        Class  `json:"class"`
	Source       string `json:"source,omitempty"`
	Sentence     string `json:"sentence"`
	Cause        string `json:"cause,omitempty"`
	Fix          string `json:"fix,omitempty"`
	Field        string `json:"field,omitempty"`
	RetryAfterMs int64  `json:"retryAfterMs,omitempty"`
}

// MarshalJSON writes code, class, source, sentence, cause, fix, field and
// retryAfterMs. The wrapped error is left out, texts are cut at MaxText.
func (e *Error) MarshalJSON() ([]byte, error) {
	return json.Marshal(wire{
		Code:         cut(e.Code),
		Class:        e.Class,
		Source:       cut(e.Source),
		Sentence:     cut(e.Sentence),
		Cause:        cut(e.Cause),
		Fix:          cut(e.Fix),
		Field:        cut(e.Field),
		RetryAfterMs: ceilMillis(e.RetryAfter),
	})
}

// UnmarshalJSON reads what MarshalJSON writes. Unknown classes become
// internal, what is no code becomes E_INTERNAL, and long texts are cut: an
// error about an error helps nobody.
func (e *Error) UnmarshalJSON(b []byte) error {
	if len(b) > MaxJSON {
		return fmt.Errorf("read fault: %d bytes are beyond the limit", len(b))
	}
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("read fault: %w", err)
	}
	*e = Error{
		Code:       w.Code,
		Class:      w.Class,
		Source:     cut(w.Source),
		Sentence:   cut(w.Sentence),
		Cause:      cut(w.Cause),
		Fix:        cut(w.Fix),
		Field:      cut(w.Field),
		RetryAfter: millis(w.RetryAfterMs),
	}
	if !validCode(e.Code) {
		e.Code = "E_INTERNAL"
	}
	if !e.Class.Known() {
		e.Class = Internal
	}
	return nil
}

// millis reads a count of milliseconds from outside: never negative, never
// beyond what a Duration holds.
func millis(ms int64) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	return time.Duration(min(max(ms, 0), most)) * time.Millisecond
}

// ceilMillis rounds up: to wait too long is harmless, too short is not.
func ceilMillis(d time.Duration) int64 {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	return max(int64(ms), 0)
}

// cut shortens s to MaxText bytes without splitting a character.
func cut(s string) string {
	if len(s) <= MaxText {
		return s
	}
	return strings.ToValidUTF8(s[:MaxText], "")
}

// validCode reports whether s looks like a code: it may become a metric label.
func validCode(s string) bool {
	if len(s) > maxCode || !strings.HasPrefix(s, "E_") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
