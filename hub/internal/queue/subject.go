package queue

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"ropeway/protocol/page"
)

// Subjects, all of whose tokens are object ids or hashes (DELIVERY §5.1):
//
//	pages.<tenant>.<environment>.<connection>.<page>   waits for the connection
//	later.<tenant>.<environment>.<page>                a scheduled copy of it
//	probe.<tenant>.<environment>.<connection>          reserved for probes
//	wake.<tenant>.<environment>.<connection>           core message, not stored

func (p Place) stream() string {
	return "Q_" + p.Tenant.String() + "_" + p.Environment.String()
}

func (p Place) subject(kind string, tokens ...string) string {
	all := append([]string{kind, p.Tenant.String(), p.Environment.String()}, tokens...)
	return strings.Join(all, ".")
}

func (p Place) subjects() []string {
	return []string{p.subject("pages", ">"), p.subject("later", "*"), p.subject("probe", "*")}
}

// pageToken is the last token of a message's subject: it hides the name and
// keeps any name safe as a token.
func pageToken(name string) string {
	sum := sha256.Sum256([]byte(name))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:26])
}

func (m *Message) pageSubject() string {
	return m.subject("pages", m.Connection.String(), pageToken(m.Name))
}

func (m *Message) laterSubject() string { return m.subject("later", pageToken(m.Name)) }

// parsePageSubject reads place and connection out of pages.t.e.c.p.
func parsePageSubject(subject string) (Place, page.ID, error) {
	t := strings.Split(subject, ".")
	if len(t) != 5 || t[0] != "pages" {
		return Place{}, page.ID{}, fmt.Errorf("subject %q: %w", subject, ErrInvalid)
	}
	return parseTokens(t[1:4])
}

// parseWakeSubject reads place and connection out of wake.t.e.c.
func parseWakeSubject(subject string) (Place, page.ID, error) {
	t := strings.Split(subject, ".")
	if len(t) != 4 || t[0] != "wake" {
		return Place{}, page.ID{}, fmt.Errorf("subject %q: %w", subject, ErrInvalid)
	}
	return parseTokens(t[1:4])
}

func parseTokens(t []string) (Place, page.ID, error) {
	var ids [3]page.ID
	for i := range ids {
		id, err := page.ParseID(t[i])
		if err != nil {
			return Place{}, page.ID{}, fmt.Errorf("subject token %q: %w", t[i], err)
		}
		ids[i] = id
	}
	return Place{Tenant: ids[0], Environment: ids[1]}, ids[2], nil
}

// parseStream reads the place out of a stream's name.
func parseStream(name string) (Place, bool) {
	t := strings.Split(name, "_")
	if len(t) != 3 || t[0] != "Q" {
		return Place{}, false
	}
	tenant, err1 := page.ParseID(t[1])
	environment, err2 := page.ParseID(t[2])
	return Place{Tenant: tenant, Environment: environment}, err1 == nil && err2 == nil
}
