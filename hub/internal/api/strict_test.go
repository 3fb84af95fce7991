package api

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestStrictJSON(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"a": [1, 2.5, "x", null, true]}`: true,
		`{"a": 1, "a": 2}`:                 false,
		`{"a": {"b": 1, "b": 2}}`:          false,
		`[1] 2`:                            false,
		`{"a": NaN}`:                       false,
		"{\"a\": \"\xff\"}":                false,
		"\ufeff{}":                         false,
		``:                                 false,
		`{"a":`:                            false,
		strings.Repeat("[", 10000):         false,
		strings.Repeat("[", 60) + strings.Repeat("]", 60): true,
	} {
		if err := checkJSON([]byte(text)); (err == nil) != ok {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func FuzzStrictJSON(f *testing.F) {
	f.Add([]byte(`{"a": [1, {"b": null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkJSON(b) == nil && !json.Valid(b) {
			t.Errorf("%q is not JSON", b)
		}
	})
}
