package security

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// forms are the ways in which a text may lie about: as it is, as URL and JSON
// have it, in hex, and in base64 at each of the three offsets of a longer text.
func forms(text string) map[string][]byte {
	out := map[string][]byte{
		"plain": []byte(text), "hex": []byte(hex.EncodeToString([]byte(text))), "HEX": bytes.ToUpper([]byte(hex.EncodeToString([]byte(text)))),
		"query": []byte(url.QueryEscape(text)), "path": []byte(url.PathEscape(text)),
		"UTF-16": []byte(strings.Join(strings.Split(text, ""), "\x00")),
	}
	for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		for offset := range 3 {
			coded := enc.EncodeToString([]byte(strings.Repeat("x", offset) + text))
			// the first and last characters belong to the neighbours too
			out[fmt.Sprintf("%s+%d", name, offset)] = []byte(coded[(offset*8+5)/6 : len(coded)-2])
		}
	}
	return out
}

// haystack is everything the programs of a site have left anywhere.
type haystack map[string][]byte

// files adds every file below dir, except those in which a secret belongs.
func (h haystack) files(t *testing.T, dir string, except ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || slices.Contains(except, filepath.Base(p)) {
			return err
		}
		text, err := os.ReadFile(p)
		if os.IsNotExist(err) {
			return nil // a temporary file, gone meanwhile
		}
		h[p] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// get adds the answer to a question.
func (h haystack) get(t *testing.T, c *http.Client, url, token string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	h["GET "+url] = body
}

// clean reports every canary in every form.
func (h haystack) clean(t *testing.T, canaries map[string]string) {
	t.Helper()
	size := 0
	for place, text := range h {
		size += len(text)
		for name, canary := range canaries {
			for form, needle := range forms(canary) {
				if at := bytes.Index(text, needle); at >= 0 {
					t.Errorf("%s lies in %s (%s): …%q…", name, place, form, text[max(0, at-80):min(len(text), at+len(needle)+20)])
					break
				}
			}
		}
	}
	t.Logf("%d places with %d bytes", len(h), size)
}

// The search finds what it is looking for; a search that cannot fail is worthless.
func TestTheSearchFindsEveryForm(t *testing.T) {
	const canary = "zQ7~ca/na+ry=&%ä"
	for form, needle := range forms(canary) {
		for pad := range 3 {
			around := strings.Repeat("p", pad)
			hay := map[string]string{
				"plain": around + canary + "s", "hex": hex.EncodeToString([]byte(around + canary)),
				"HEX": strings.ToUpper(hex.EncodeToString([]byte(canary))), "query": "a=" + url.QueryEscape(canary),
				"path": "/" + url.PathEscape(canary), "UTF-16": string(needle),
				"base64":    base64.StdEncoding.EncodeToString([]byte(around + canary + "tail")),
				"base64url": base64.URLEncoding.EncodeToString([]byte(around + canary + "tail")),
			}
			kind, offset, coded := strings.Cut(form, "+")
			if coded && offset != fmt.Sprint(pad) {
				continue
			}
			if !strings.Contains(hay[kind], string(needle)) {
				t.Errorf("%s is not found in %q", form, hay[kind])
			}
		}
	}
}
