package page_test

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"ropeway/protocol/page"
)

func protocolDoc(t *testing.T) string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

func block(t *testing.T, doc, language string) string {
	t.Helper()
	_, rest, _ := strings.Cut(doc, "```"+language+"\n")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatalf("no %s block", language)
	}
	return text
}

func TestTheExampleOfTheDocumentIsRight(t *testing.T) {
	doc := protocolDoc(t)
	want, err := hex.DecodeString(strings.Join(strings.Fields(block(t, doc, "hex")), ""))
	if err != nil {
		t.Fatal(err)
	}
	e := page.NewEncoder()
	for line := range strings.Lines(block(t, doc, "jsonl")) {
		r, err := page.ParseRecord([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Record(r); err != nil {
			t.Fatal(err)
		}
	}
	if got := e.Finish([]byte("c")); !bytes.Equal(got, want) {
		t.Errorf("got %x", got)
	}
}

func TestTheJSONFormsOfTheDocumentAreRight(t *testing.T) {
	n := 0
	for line := range strings.Lines(protocolDoc(t)) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			continue
		}
		_, rest, _ := strings.Cut(cells[2], "`")
		text, _, _ := strings.Cut(rest, "`")
		if !strings.HasPrefix(text, `{"$type":`) {
			continue
		}
		n++
		v, err := page.ParseJSON([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", cells[1], err)
		} else if got := string(v.AppendJSON(nil)); got != text {
			t.Errorf("%s is written %s", text, got)
		}
	}
	if n != 17 {
		t.Errorf("%d forms found", n)
	}
}
