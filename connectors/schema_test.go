package connectors_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

var schema = connectors.Schema{Fields: []connectors.Field{
	{Name: "host", Type: connectors.String, Required: true, Doc: "d"},
	{Name: "port", Type: connectors.Int, Default: int64(5432), Min: 1, Max: 65535, Doc: "d"},
	{Name: "tls", Type: connectors.String, Default: "verify-full", Enum: []string{"disable", "verify-full"}, Doc: "d"},
	{Name: "wait", Type: connectors.Duration, Default: "10s", Doc: "d"},
	{Name: "plain", Type: connectors.Bool, Doc: "d"},
	{Name: "ca", Type: connectors.PEM, Doc: "d"},
	{Name: "password", Type: connectors.String, Secret: true, Doc: "d"},
}}

func TestSchemaDecode(t *testing.T) {
	got, err := schema.Decode([]byte(`{"host": "db", "port": 1, "plain": true, "ca": "a\nb"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := connectors.Settings{"host": "db", "port": int64(1), "tls": "verify-full", "wait": "10s", "plain": true, "ca": "a\nb"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.Duration("wait").Seconds() != 10 || got.Int("port") != 1 || !got.Bool("plain") || got.String("none") != "" {
		t.Error("accessors differ from the values")
	}
}

func TestHostile_3_SettingsAreRefused(t *testing.T) {
	for _, test := range []struct{ json, cause string }{
		{`[]`, "not a JSON object"},
		{`{"host": "db"} {}`, "something follows"},
		{`{}`, `"host" is missing`},
		{`{"host": ""}`, "is empty"},
		{`{"host": null}`, `"host" is missing`},
		{`{"host": 5}`, "must be a text"},
		{`{"host": "db", "prot": 1}`, `did you mean "port"`},
		{`{"host": "db", "sslmode": "disable"}`, "known are host, port"},
		{`{"host": "db\nsslmode=disable"}`, "line break"},
		{`{"host": "db\u0000"}`, "NUL"},
		{`{"host": "db", "port": 0}`, "from 1 to 65535"},
		{`{"host": "db", "port": 65536}`, "from 1 to 65535"},
		{`{"host": "db", "port": 1.5}`, "whole number"},
		{`{"host": "db", "port": 1e400}`, "whole number"},
		{`{"host": "db", "port": "5432"}`, "whole number"},
		{`{"host": "db", "tls": "off"}`, "one of disable, verify-full"},
		{`{"host": "db", "wait": "soon"}`, "duration"},
		{`{"host": "db", "wait": "-1s"}`, "duration"},
		{`{"host": "db", "plain": "yes"}`, "true or false"},
		{`{"host": "` + strings.Repeat("x", 70000) + `"}`, "longer than"},
	} {
		_, err := schema.Decode([]byte(test.json))
		if fault.CodeOf(err) != "E_SETTINGS" || !strings.Contains(err.Error(), test.cause) {
			t.Errorf("%.60s: %v, want %q", test.json, err, test.cause)
		}
	}
	_, err := schema.Decode([]byte(`{"host": "db", "pasword": "canary", "password": 5}`))
	if err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a value is in the error: %v", err)
	}
}

func TestJSONSchema(t *testing.T) {
	s := schema.JSONSchema()
	if s["additionalProperties"] != false || len(s["properties"].(map[string]any)) != len(schema.Fields) {
		t.Errorf("got %v", s)
	}
	if diff := cmp.Diff([]string{"host"}, s["required"]); diff != "" {
		t.Error(diff)
	}
}

func TestQueryJSON(t *testing.T) {
	for _, text := range []string{
		`{"query":"SELECT 1","key":["id"]}`,
		`{"table":"t","columns":["a"],"where":"a \u003e 1","key":["id"],"pageSize":10}`,
		`{"table":"t","where":[{"column":"a","op":"in","value":[1,"x"]},{"column":"b","op":"is null"}]}`,
	} {
		var q connectors.Query
		if err := json.Unmarshal([]byte(text), &q); err != nil {
			t.Fatal(err)
		}
		if err := q.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if b, err := json.Marshal(q); err != nil || string(b) != text {
			t.Errorf("got %s, want %s (%v)", b, text, err)
		}
	}
	for _, text := range []string{
		`{}`, `{"query":"q","table":"t"}`, `{"query":"q","where":"x"}`, `{"table":"t","key":["a","a"]}`,
		`{"table":"t","key":[""]}`, `{"table":"t","pageSize":-1}`, `{"table":"t","where":[{"column":"a","op":"or"}]}`,
		`{"table":"t","where":[{"column":"a","op":"=","value":null}]}`, `{"table":"t","where":[{"op":"is null"}]}`,
		`{"table":"t","where":[{"column":"a","op":"in","value":1}]}`,
	} {
		var q connectors.Query
		err := json.Unmarshal([]byte(text), &q)
		if err == nil {
			err = q.Validate()
		}
		if fault.CodeOf(err) != "E_QUERY" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestImportSpecJSON(t *testing.T) {
	var s connectors.ImportSpec
	text := `{"table":"t","mode":"upsert","key":["id"],"fieldErrors":{"remove":"*"}}`
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if !s.FieldErrors.Removes("any") || s.FieldErrors.Removes("") {
		t.Errorf("got %+v", s)
	}
	b, err := json.Marshal(s)
	if err != nil || !strings.Contains(string(b), `"fieldErrors":{"remove":["*"]}`) {
		t.Errorf("got %s, %v", b, err)
	}
	normal, err := connectors.ImportSpec{Table: "t"}.Normal()
	if err != nil || normal.Mode != "insert" || normal.Inbox != "auto" {
		t.Errorf("got %+v, %v", normal, err)
	}
}
