package cli

import (
	"strings"
	"testing"
)

func FuzzParseFields(f *testing.F) {
	f.Add([]byte(`{"username":"a","password":"b"}`))
	f.Add([]byte(`{"a":{"b":"c"}}`))
	f.Add([]byte(`{"a":"b"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		fields, err := parseFields(text)
		if err == nil && fields == nil {
			t.Error("neither fields nor an error")
		}
		if len(text) > 12 && err != nil && strings.Contains(err.Error(), string(text)) {
			t.Error("the error quotes the input")
		}
	})
}

func TestParseFieldsDepth(t *testing.T) {
	for _, text := range []string{strings.Repeat("[", 10000), `{"a":` + strings.Repeat("[", 10000), strings.Repeat(`{"a":`, 10000), "null", "{\"a\":null}", ""} {
		if _, err := parseFields([]byte(text)); err == nil {
			t.Errorf("%.20q was accepted", text)
		}
	}
}

func TestOneLineKeepsTheTerminalClean(t *testing.T) {
	if got := oneLine("a\x1b[31mb\r\nc\u202ed"); strings.ContainsAny(got, "\x1b\r\n\u202e") {
		t.Errorf("%q", got)
	}
}
