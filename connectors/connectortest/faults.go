package connectortest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func testFaults(t *testing.T, s *suite) {
	t.Run("ping", func(t *testing.T) {
		if err := s.Type.Ping(t.Context(), s.open(t)); err != nil {
			t.Error(err)
		}
	})
	t.Run("bad queries", func(t *testing.T) { faultQueries(t, s) })
	t.Run("bad import specs", func(t *testing.T) { faultSpecs(t, s) })
	t.Run("rejected credential", func(t *testing.T) { faultConnect(t, s, s.Rejected, fault.Auth) })
	t.Run("unreachable", func(t *testing.T) { faultConnect(t, s, s.Unreachable, fault.Connection) })
	t.Run("cancel", func(t *testing.T) { faultCancel(t, s) })
	t.Run("time-out", func(t *testing.T) { faultTimeout(t, s) })
}

func faultQueries(t *testing.T, s *suite) {
	c := s.open(t)
	source := s.tableOf(t, "id bigint PRIMARY KEY, v text")
	s.fill(t, source, 3)
	key := []string{"id"}
	for _, test := range []struct {
		name, code string
		query      connectors.Query
	}{
		{"nothing", "E_QUERY", connectors.Query{}},
		{"syntax", "E_QUERY", connectors.Query{SQL: "SELEC 1", Key: key}},
		{"syntax unkeyed", "E_QUERY", connectors.Query{SQL: "SELEC 1"}},
		{"two statements", "E_QUERY", connectors.Query{SQL: "SELECT 1 AS id; DELETE FROM " + source, Key: key}},
		{"two statements unkeyed", "E_QUERY", connectors.Query{SQL: "SELECT 1 AS id; DELETE FROM " + source}},
		{"closing the parenthesis", "E_QUERY",
			connectors.Query{SQL: "SELECT 1 AS id) AS q; DELETE FROM " + source + "; --", Key: key}},
		{"missing table", "E_TABLE_MISSING", connectors.Query{Table: table(), Key: key}},
		{"missing table in a query", "E_TABLE_MISSING", connectors.Query{SQL: "SELECT * FROM " + table()}},
		{"missing column", "E_COLUMN_MISSING", connectors.Query{Table: source, Columns: []string{"nosuch"}, Key: key}},
		{"missing key", "E_COLUMN_MISSING", connectors.Query{Table: source, Key: []string{"nosuch"}}},
		{"key that is not selected", "E_COLUMN_MISSING", connectors.Query{SQL: "SELECT v FROM " + source, Key: key}},
		{"missing column in where", "E_COLUMN_MISSING", connectors.Query{Table: source, Key: key,
			Where: connectors.Where{All: []connectors.Condition{{Column: "nosuch", Op: "=", Value: json.RawMessage("1")}}}}},
		{"unknown operator", "E_QUERY", connectors.Query{Table: source, Key: key,
			Where: connectors.Where{All: []connectors.Condition{{Column: "id", Op: "= 1 OR 1", Value: json.RawMessage("1")}}}}},
		{"doubled column", "E_QUERY", connectors.Query{SQL: "SELECT id, id FROM " + source}},
		{"bad table name", "E_QUERY", connectors.Query{Table: `a.b.c.d`, Key: key}},
		{"hostile table name", "E_TABLE_MISSING", connectors.Query{Table: source + `; DROP TABLE ` + source, Key: key}},
		{"hostile column name", "E_COLUMN_MISSING", connectors.Query{Table: source, Columns: []string{`id" FROM x --`}, Key: key}},
	} {
		_, _, err := run(t.Context(), s.newRead(c, test.query))
		if fault.CodeOf(err) != test.code {
			t.Errorf("%s: %v (%s), want %s", test.name, err, fault.CodeOf(err), test.code)
		}
		s.checkError(t, err)
	}
	r := s.newRead(c, connectors.Query{Table: source, Key: key})
	for _, cursor := range [][]byte{{1}, []byte("not a cursor of ours"), make([]byte, 100)} {
		r.Cursor = cursor
		if _, _, err := run(t.Context(), r); fault.CodeOf(err) != "E_QUERY" {
			t.Errorf("cursor %q: %v", cursor, err)
		}
	}
	if got := s.count(t, source); got != "3" {
		t.Errorf("%s rows are left of 3", got)
	}
	if got := s.readAll(t, c, connectors.Query{Table: source, Key: key}); len(got) != 3 {
		t.Error("the connection does not work any more")
	}
}

func faultSpecs(t *testing.T, s *suite) {
	c := s.open(t)
	target := s.tableOf(t, "id bigint, v text")
	for _, spec := range []connectors.ImportSpec{
		{},
		{Table: target, Mode: "merge"},
		{Table: target, Mode: "upsert"},
		{Table: target, Inbox: "maybe"},
		{Table: target, Mode: "update", Key: []string{"id", "id"}},
	} {
		if _, err := s.load(t.Context(), c, spec, mixed(t)); fault.CodeOf(err) != "E_QUERY" {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	spec := connectors.ImportSpec{Table: target, Mode: "upsert", Key: []string{"id"}}
	if _, err := s.load(t.Context(), c, spec, mixed(t)); fault.ClassOf(err) != fault.SchemaDrift {
		t.Errorf("upsert without a unique index: %v", err)
	}
	damaged := mixed(t)
	damaged.Header.PayloadHash = page.Hash{}
	if _, err := s.load(t.Context(), c, connectors.ImportSpec{Table: target}, damaged); fault.CodeOf(err) != "E_CHECKSUM" {
		t.Errorf("damaged page: %v", err)
	}
	if got := s.count(t, target); got != "0" {
		t.Errorf("%s rows were written", got)
	}
}

func faultConnect(t *testing.T, s *suite, spoil func(*connectors.Env, map[string]any), want fault.Class) {
	if spoil == nil {
		t.Skip("impossible with this system")
	}
	env, settings := s.Env, maps.Clone(s.Settings)
	spoil(&env, settings)
	c, err := s.openWith(t, env, settings)
	if err == nil {
		defer c.Close()
		err = s.Type.Ping(t.Context(), c)
	}
	if fault.ClassOf(err) != want {
		t.Errorf("%v has class %s, want %s", err, fault.ClassOf(err), want)
	}
	s.checkError(t, err)
}

func faultCancel(t *testing.T, s *suite) {
	if s.Long == "" {
		t.Skip("no query runs long here")
	}
	c := s.open(t)
	for _, q := range []connectors.Query{{SQL: s.Long}, {SQL: s.Long, Key: []string{"id"}}} {
		ctx, cancel := context.WithCancel(t.Context())
		stop := time.AfterFunc(50*time.Millisecond, cancel)
		began := time.Now()
		_, _, err := run(ctx, s.newRead(c, q))
		stop.Stop()
		if err == nil || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the cancel took %v", took)
		}
	}
	if err := s.Type.Ping(t.Context(), c); err != nil {
		t.Errorf("after the cancel: %v", err)
	}
}

func faultTimeout(t *testing.T, s *suite) {
	if s.Long == "" {
		t.Skip("no query runs long here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := run(ctx, s.newRead(s.open(t), connectors.Query{SQL: s.Long}))
	if fault.CodeOf(err) != "E_TIMEOUT" || fault.ClassOf(err) != fault.Intermittent {
		t.Errorf("timed out: %v (%s)", err, fault.CodeOf(err))
	}
}

// checkError checks that an error is a fault that people can read, without any
// secret in any of the usual encodings.
func (s *suite) checkError(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	f := fault.From(err)
	if f.Code == "" || f.Sentence == "" || f.Fix == "" {
		t.Errorf("%v has no code, sentence or fix", err)
	}
	text := fmt.Sprintf("%v %+v %#v %s", err, err, *f, f.Error())
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(next) {
		text += fmt.Sprintf(" %v", next)
	}
	for _, secret := range s.Secrets {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)),
			hex.EncodeToString([]byte(secret)), url.QueryEscape(secret)} {
			if strings.Contains(text, form) {
				t.Errorf("a secret is in the error %q", text)
			}
		}
	}
}
