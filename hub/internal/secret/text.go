package secret

import (
	"fmt"
	"log/slog"
)

// hidden is what every print of a secret shows.
const hidden = "***"

// Secret is a text that prints as *** wherever it is formatted, logged or
// encoded. Only Reveal gives the text.
type Secret string

// Reveal returns the text, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (s Secret) String() string { return hidden }

// GoString hides the text.
func (s Secret) GoString() string { return hidden }

// Format hides the text for every verb and flag.
func (s Secret) Format(f fmt.State, _ rune) { f.Write([]byte(hidden)) }

// LogValue hides the text.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the text in JSON, YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
