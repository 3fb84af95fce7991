package page_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/protocol/page"
)

// The files under testdata hold bytes as they are stored and sent by released
// programs. There is no way to renew them on purpose: when one of these tests
// fails, the change breaks stored pages, and needs a new format version.

const goldenHash = "0252a56af567597b51288f0a04f4bbb72c4ef622090b58327d26bb4d0123929b"

func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenHeaders(t *testing.T) {
	for name, want := range map[string]page.Header{
		"header_chained.hex": chainedHeader(), "header_pushed.hex": pushedHeader(),
	} {
		b := golden(t, name)
		if !bytes.Equal(want.Marshal(), b) {
			t.Errorf("%s: the bytes of headers have changed:\n%x", name, want.Marshal())
		}
		got, err := page.UnmarshalHeader(b)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	h := chainedHeader()
	if got := h.Hash().String(); got != goldenHash {
		t.Errorf("page hash %s", got)
	}
}

func TestGoldenPayload(t *testing.T) {
	b := golden(t, "payload.hex")
	lines, err := os.ReadFile("testdata/payload.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	d, err := page.NewDecoder(b)
	if err != nil {
		t.Fatal(err)
	}
	e := page.NewEncoder()
	for line := range bytes.Lines(lines) {
		if !d.Next() {
			t.Fatal(d.Err())
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if got := d.Record().AppendJSON(nil); !bytes.Equal(got, line) {
			t.Errorf("got  %s\nwant %s", got, line)
		}
		r, err := page.ParseRecord(line)
		if err != nil {
			t.Fatal(err)
		}
		e.Fields(r)
		if err := e.EndDerived(d.Origin(""), d.Key()); err != nil {
			t.Fatal(err)
		}
	}
	if d.Next() || d.Err() != nil {
		t.Fatalf("more records: %v", d.Err())
	}
	if got := e.Finish(d.Cursor()); !bytes.Equal(got, b) {
		t.Error("the bytes of payloads have changed")
	}
}

func TestGoldenSealedPage(t *testing.T) {
	_, keys := testKeys(t)
	p, env, err := page.OpenPage(golden(t, "sealed_page.hex"), keys)
	if err != nil || env.Attempt != 3 {
		t.Fatalf("%+v, %v", env, err)
	}
	want, err := samplePage(t).Open()
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Open()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("payload: %v", err)
	}
	if diff := cmp.Diff(samplePage(t).Header, p.Header); diff != "" {
		t.Error(diff)
	}
	plain, err := page.OpenBytes(golden(t, "sealed_bytes.hex"), []byte("aad"), keys)
	if err != nil || string(plain) != "cursor" {
		t.Errorf("%q, %v", plain, err)
	}
}
