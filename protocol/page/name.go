package page

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
)

// A Chain is the series of pages that one export of one job produces.
type Chain struct {
	Job  ID
	Step string // [a-z0-9][a-z0-9_-]{0,31}
}

// String reads "<job>.<step>".
func (c Chain) String() string { return c.Job.String() + "." + c.Step }

// IsZero reports whether the chain is not set.
func (c Chain) IsZero() bool { return c == Chain{} }

// A ParsedName holds the parts of a name. Exactly one of three forms holds:
// a chained page (Chain, Epoch, Seq), a pushed page (Pushed, Listener,
// EventHash) or a read request (Read, Chain, ReadN). Path is "" for a root,
// else "/step[.k]…"; for a read request it is "/read.<n>".
type ParsedName struct {
	Chain     Chain
	Epoch     Epoch
	Seq       uint64
	Listener  ID
	EventHash Hash
	Path      string
	Pushed    bool
	Read      bool
	ReadN     uint64
}

// Root is the part of a name before the first "/": the page that everything
// under it was made of.
func Root(name string) string {
	root, _, _ := strings.Cut(name, "/")
	return root
}

// ChainedName is the name of root page seq of an execution of a chain.
func ChainedName(c Chain, e Epoch, seq uint64) string {
	return c.String() + ":" + e.String() + ":" + strconv.FormatUint(seq, 10)
}

// PushedName is the name of the page of one event: event is the hash of its
// idempotency key, or random.
func PushedName(listener ID, event Hash) string {
	return listener.String() + "@" + event.String()
}

// ReadName is the name of the n-th read request of a chain.
func ReadName(c Chain, n uint64) string {
	return c.String() + "/read." + strconv.FormatUint(n, 10)
}

// NameHash64 is the first 8 bytes of the SHA-256 of a name, big-endian: what
// the settled XOR sums up.
func NameHash64(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[:8])
}

// ParseName takes a name apart and refuses every text that is not the one
// spelling of a name.
func ParseName(name string) (ParsedName, error) {
	if len(name) > MaxPath+256 {
		return ParsedName{}, badText("name", name)
	}
	root := Root(name)
	p := ParsedName{Path: name[len(root):]}
	var ok bool
	switch {
	case strings.Contains(root, "@"):
		ok = p.parsePushed(root) && ValidPath(p.Path)
	case strings.Contains(root, ":"):
		ok = p.parseChained(root) && ValidPath(p.Path)
	default:
		ok = p.parseRead(root)
	}
	if !ok {
		return ParsedName{}, badText("name", name)
	}
	return p, nil
}

func (p *ParsedName) parsePushed(root string) bool {
	listener, event, _ := strings.Cut(root, "@")
	var err1, err2 error
	p.Pushed = true
	p.Listener, err1 = ParseID(listener)
	p.EventHash, err2 = ParseHash(event)
	return err1 == nil && err2 == nil
}

func (p *ParsedName) parseChained(root string) bool {
	parts := strings.Split(root, ":")
	if len(parts) != 3 || !p.Chain.parse(parts[0]) {
		return false
	}
	var err error
	if p.Epoch, err = ParseEpoch(parts[1]); err != nil {
		return false
	}
	var ok bool
	p.Seq, ok = parseCount(parts[2])
	return ok
}

func (p *ParsedName) parseRead(root string) bool {
	n, found := strings.CutPrefix(p.Path, "/read.")
	if !found || !p.Chain.parse(root) {
		return false
	}
	var ok bool
	p.Read = true
	p.ReadN, ok = parseCount(n)
	return ok
}

func (c *Chain) parse(s string) bool {
	job, step, found := strings.Cut(s, ".")
	if !found || !ValidStep(step) {
		return false
	}
	var err error
	c.Job, err = ParseID(job)
	c.Step = step
	return err == nil
}

// ParseChain reads "<job>.<step>".
func ParseChain(s string) (Chain, error) {
	var c Chain
	if !c.parse(s) {
		return Chain{}, badText("chain", s)
	}
	return c, nil
}

// ValidStep reports whether s is a step token: [a-z0-9][a-z0-9_-]{0,31}.
func ValidStep(s string) bool {
	if len(s) == 0 || len(s) > MaxStep {
		return false
	}
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !plain && (i == 0 || c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// ValidPath reports whether s is "" or a series of "/step" or "/step.k".
func ValidPath(s string) bool {
	if s == "" {
		return true
	}
	if len(s) > MaxPath || s[0] != '/' {
		return false
	}
	for part := range strings.SplitSeq(s[1:], "/") {
		step, k, split := strings.Cut(part, ".")
		if !ValidStep(step) {
			return false
		}
		if _, ok := parseCount(k); split && !ok {
			return false
		}
	}
	return true
}

// parseCount reads a decimal number without sign or leading zeros.
func parseCount(s string) (uint64, bool) {
	if s == "" || s[0] == '0' && len(s) > 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// quoted shows a bounded part of a text from outside.
func quoted(s string) string {
	const shown = 80
	if len(s) > shown {
		return strconv.QuoteToASCII(s[:shown]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
