package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ropeway/protocol/fault"
)

var plain = cmpopts.IgnoreUnexported(fault.Error{})

func TestErrorReadsAsASentence(t *testing.T) {
	e := fault.New(fault.Auth, "E_AUTH_REJECTED", "PostgreSQL rejects the password")
	tests := []struct {
		err  *fault.Error
		want string
	}{
		{e.WithFix(""), "PostgreSQL rejects the password"},
		{e.WithCause("28P01").WithFix("set another password"), "PostgreSQL rejects the password: 28P01 (set another password)"},
		{e.WithCause(fs.ErrNotExist).WithFix(""), "PostgreSQL rejects the password: file does not exist"},
		{fault.New(fault.Internal, "E_ODD", ""), "E_ODD"},
	}
	for _, test := range tests {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
	if e.Cause != "" || e.Fix == "" {
		t.Error("a With method changed its receiver, or the listed fix is missing")
	}
}

func TestFromKeepsOrClassifies(t *testing.T) {
	denied := fault.Of("E_POLICY_DENIED")
	tests := []struct {
		name  string
		err   error
		code  string
		class fault.Class
	}{
		{"nil", nil, "", ""},
		{"fault", denied, "E_POLICY_DENIED", fault.Policy},
		{"wrapped fault", fmt.Errorf("dial: %w", denied), "E_POLICY_DENIED", fault.Policy},
		{"deadline", fmt.Errorf("read: %w", context.DeadlineExceeded), "E_TIMEOUT", fault.Intermittent},
		{"i/o deadline", os.ErrDeadlineExceeded, "E_TIMEOUT", fault.Intermittent},
		{"other", errors.New("boom"), "E_INTERNAL", fault.Internal},
		{"cancelled", context.Canceled, "E_INTERNAL", fault.Internal},
	}
	for _, test := range tests {
		if code, class := fault.CodeOf(test.err), fault.ClassOf(test.err); code != test.code || class != test.class {
			t.Errorf("%s: %s %s", test.name, code, class)
		}
	}
	if fault.From(nil) != nil {
		t.Error("nil is not nil")
	}
	e := fault.From(context.Canceled)
	if !errors.Is(e, context.Canceled) || e.Cause != "context canceled" {
		t.Errorf("the wrapped error is lost: %v", e)
	}
	if err := fmt.Errorf("x: %w", denied.Wrap(fs.ErrExist)); !errors.Is(err, fs.ErrExist) || !errors.Is(err, fault.Of("E_POLICY_DENIED")) {
		t.Error("errors.Is does not see through")
	}
}

func TestDelivery_8_OnlyFaultsOfRecordsPark(t *testing.T) {
	parks := map[fault.Class]bool{
		fault.Value: true, fault.Missing: true, fault.Duplicate: true, fault.Parse: true, fault.TooLarge: true,
		fault.Intermittent: false, fault.RateLimit: false, fault.Connection: false, fault.Auth: false,
		fault.Policy: false, fault.SchemaDrift: false, fault.Internal: false, "unheard": false,
	}
	for class, want := range parks {
		if class.Parks() != want || class.Known() != (class != "unheard") {
			t.Errorf("%s parks %v", class, class.Parks())
		}
	}
}

func TestJSONCrossesTheWire(t *testing.T) {
	e := fault.Of("E_RATE_LIMIT").WithCause(errors.New("429")).WithSource("http").
		WithField("fax").WithRetryAfter(1500 * time.Microsecond)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"code":"E_RATE_LIMIT","class":"rate_limit","source":"http","sentence":"the endpoint asks to slow down",` +
		`"cause":"429","fix":"nothing; the connection waits and goes on","field":"fax","retryAfterMs":2}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back fault.Error
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.WithRetryAfter(2*time.Millisecond), &back, plain); diff != "" {
		t.Error(diff)
	}
	if back.Unwrap() != nil {
		t.Error("a wrapped error came over the wire")
	}
}

func TestHostile_JSONFromOutsideIsTamed(t *testing.T) {
	long := strings.Repeat("ü", fault.MaxText)
	tests := []struct {
		json string
		want fault.Error
	}{
		{`{}`, fault.Error{Code: "E_INTERNAL", Class: fault.Internal}},
		{`{"code":"rm -rf","class":"root","retryAfterMs":-5}`, fault.Error{Code: "E_INTERNAL", Class: fault.Internal}},
		{`{"code":"E_` + strings.Repeat("X", 99) + `"}`, fault.Error{Code: "E_INTERNAL", Class: fault.Internal}},
		{`{"code":"E_X","class":"auth","cause":"` + long + `"}`,
			fault.Error{Code: "E_X", Class: fault.Auth, Cause: long[:fault.MaxText]}},
		{`{"code":"E_X","class":"auth","cause":"a` + long + `"}`,
			fault.Error{Code: "E_X", Class: fault.Auth, Cause: ("a" + long)[:fault.MaxText-1]}},
		{`{"code":"E_X","class":"auth","retryAfterMs":9223372036854775807}`,
			fault.Error{Code: "E_X", Class: fault.Auth, RetryAfter: math.MaxInt64 / time.Millisecond * time.Millisecond}},
	}
	for _, test := range tests {
		var got fault.Error
		if err := json.Unmarshal([]byte(test.json), &got); err != nil {
			t.Errorf("%.60s: %v", test.json, err)
		}
		if diff := cmp.Diff(&test.want, &got, plain); diff != "" {
			t.Errorf("%.60s: %s", test.json, diff)
		}
	}
	for _, bad := range []string{`null x`, `[]`, `"E_X"`, `{"code":1}`, `{"retryAfterMs":1e400}`,
		`{"cause":"` + strings.Repeat("x", fault.MaxJSON) + `"}`} {
		if err := new(fault.Error).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%.40s was read", bad)
		}
	}
}

func TestEveryCodeTellsWhatToDo(t *testing.T) {
	codes := fault.Codes()
	if len(codes) < 50 {
		t.Errorf("%d codes", len(codes))
	}
	for i, c := range codes {
		if !strings.HasPrefix(c.Code, "E_") || !c.Class.Known() || c.Sentence == "" || c.Fix == "" {
			t.Errorf("incomplete: %+v", c)
		}
		if strings.HasSuffix(c.Sentence, ".") || strings.HasSuffix(c.Fix, ".") {
			t.Errorf("%s ends with a full stop", c.Code)
		}
		if i > 0 && codes[i-1].Code >= c.Code {
			t.Errorf("%s is not in order", c.Code)
		}
		if e := fault.Of(c.Code); e.Class != c.Class || e.Sentence != c.Sentence || e.Fix != c.Fix {
			t.Errorf("%s differs from the list", c.Code)
		}
	}
	if e := fault.Of("E_NOT_LISTED"); e.Class != fault.Internal || e.Sentence == "" {
		t.Errorf("unlisted: %+v", e)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"code":"E_X","class":"auth","sentence":"s","retryAfterMs":1}`))
	f.Add([]byte(`{"cause":"\ud800"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e, back fault.Error
		if e.UnmarshalJSON(b) != nil {
			return
		}
		out, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&e, &back, plain); diff != "" {
			t.Fatal(diff)
		}
	})
}
