package page

import (
	"fmt"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"ropeway/protocol/fault"
)

// A jsonReader reads RFC 8259 JSON strictly: one document, valid UTF-8, no lone
// surrogates, no repeated names, arrays and objects nested to a limit. Numbers
// stay exact.
type jsonReader struct {
	b      []byte
	i      int
	depth  int
	values int  // values inside arrays and objects
	tagged bool // objects that begin with "$type" are tagged values
	err    error
}

// ParseRecord reads the JSON form of a record.
func ParseRecord(b []byte) (Record, error) { return parseRecord(b, true) }

// ParseJSON reads the JSON form of a value.
func ParseJSON(b []byte) (Value, error) { return parseDocument(b, true, MaxDepth) }

// ParsePlainRecord reads an object as other programs write it, in which a field
// "$type" is a field like any other.
func ParsePlainRecord(b []byte) (Record, error) { return parseRecord(b, false) }

// ParsePlain reads JSON as other programs write it, in which a field "$type" is
// a field like any other.
func ParsePlain(b []byte) (Value, error) { return parseDocument(b, false, MaxDepth) }

func parseRecord(b []byte, tagged bool) (Record, error) {
	v, err := parseDocument(b, tagged, MaxDepth+1)
	if err != nil {
		return Record{}, err
	}
	if v.kind != KindObject {
		return Record{}, fault.Of("E_PARSE").WithSentence("the record is not a JSON object")
	}
	return v.Fields(), nil
}

// parseDocument reads one value whose arrays and objects nest at most depth deep.
func parseDocument(b []byte, tagged bool, depth int) (Value, error) {
	r := jsonReader{b: b, tagged: tagged}
	v := r.value()
	r.space()
	if r.err == nil && r.i != len(b) {
		r.fail("more follows the value")
	}
	if v.Depth() > depth {
		r.fail("nested too deep")
	}
	if r.err != nil {
		return Value{}, r.err
	}
	return v, nil
}

func (r *jsonReader) fail(why string) {
	if r.err == nil {
		r.err = fault.Of("E_PARSE").WithSentence("the JSON cannot be read").
			WithCause(fmt.Sprintf("byte %d: %s", r.i, why))
	}
}

func (r *jsonReader) space() {
	for r.i < len(r.b) {
		switch r.b[r.i] {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return
		}
	}
}

// peek is the next byte that is not space; 0 at the end and after an error.
func (r *jsonReader) peek() byte {
	r.space()
	if r.err != nil || r.i >= len(r.b) {
		return 0
	}
	return r.b[r.i]
}

func (r *jsonReader) accept(c byte) bool {
	if r.peek() != c || r.i >= len(r.b) {
		return false
	}
	r.i++
	return true
}

func (r *jsonReader) expect(c byte) {
	if !r.accept(c) {
		r.fail("expected " + strconv.QuoteRune(rune(c)))
	}
}

func (r *jsonReader) value() Value {
	switch c := r.peek(); c {
	case '{':
		return r.nested(r.object)
	case '[':
		return r.nested(r.array)
	case '"':
		return String(r.text())
	case 't':
		return r.word("true", Bool(true))
	case 'f':
		return r.word("false", Bool(false))
	case 'n':
		return r.word("null", Null())
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return r.number()
		}
	}
	r.fail("expected a value")
	return Value{}
}

func (r *jsonReader) word(word string, v Value) Value {
	if len(r.b)-r.i < len(word) || string(r.b[r.i:r.i+len(word)]) != word {
		r.fail("expected " + word)
		return Value{}
	}
	r.i += len(word)
	return v
}

// nested guards the depth of the recursion: a record adds one level to its
// values, and a tag up to two.
func (r *jsonReader) nested(read func() Value) Value {
	if r.depth++; r.depth > MaxDepth+3 {
		r.fail("nested too deep")
		return Value{}
	}
	v := read()
	r.depth--
	return v
}

func (r *jsonReader) array() Value {
	r.expect('[')
	var items []Value
	if r.accept(']') {
		return Array(nil)
	}
	for r.err == nil {
		items = append(items, r.value())
		r.counted()
		if r.accept(']') {
			return Array(items)
		}
		r.expect(',')
	}
	return Value{}
}

// counted bounds the memory: a value takes many times its text.
func (r *jsonReader) counted() {
	if r.values++; r.values > MaxItems {
		r.fail("too many values")
	}
}

// object reads an object, or the value that it stands for if it is tagged.
func (r *jsonReader) object() Value {
	r.expect('{')
	if r.accept('}') {
		return Object(noFields, nil)
	}
	first := r.name()
	if r.tagged && first == typeField {
		return r.taggedValue()
	}
	return r.fields(first)
}

// plainObject reads an object whose "$type" is a field like any other.
func (r *jsonReader) plainObject() Value {
	r.expect('{')
	if r.accept('}') {
		return Object(noFields, nil)
	}
	return r.fields(r.name())
}

// name reads a field's name and the colon.
func (r *jsonReader) name() string {
	if r.peek() != '"' {
		r.fail("expected a name")
		return ""
	}
	s := r.text()
	r.expect(':')
	return s
}

// fields reads the rest of an object after its first name.
func (r *jsonReader) fields(name string) Value {
	var names nameList
	var values []Value
	for r.err == nil {
		if !names.add(name) {
			r.fail("the name " + quoted(name) + " is repeated")
		}
		values = append(values, r.value())
		r.counted()
		if r.accept('}') {
			return Object(&Shape{Names: names.all}, values)
		}
		r.expect(',')
		name = r.name()
	}
	return Value{}
}

// A nameList collects the different names of one object.
type nameList struct {
	all  []string
	seen map[string]struct{} // only of wide objects
}

func (l *nameList) add(name string) bool {
	if len(l.all) < linear {
		if slices.Contains(l.all, name) {
			return false
		}
		l.all = append(l.all, name)
		return true
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{}, 2*linear)
		for _, n := range l.all {
			l.seen[n] = struct{}{}
		}
	}
	if _, twice := l.seen[name]; twice {
		return false
	}
	l.seen[name] = struct{}{}
	l.all = append(l.all, name)
	return true
}

// number reads an int64 where the text is one, else an exact decimal.
func (r *jsonReader) number() Value {
	start := r.i
	if r.b[r.i] == '-' {
		r.i++
	}
	whole := r.digits()
	if whole == 0 || whole > 1 && r.b[r.i-whole] == '0' {
		r.fail("not a number")
		return Value{}
	}
	integer := true
	if r.next('.') {
		integer = false
		if r.digits() == 0 {
			r.fail("not a number")
		}
	}
	if r.next('e') || r.next('E') {
		integer = false
		_ = r.next('+') || r.next('-')
		if r.digits() == 0 {
			r.fail("not a number")
		}
	}
	text := string(r.b[start:r.i])
	if integer && text != "-0" && len(text) <= 20 {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return Int(i)
		}
	}
	v, ok := parseDecimal(text)
	if !ok {
		r.fail("the number is beyond the limits")
	}
	return v
}

func (r *jsonReader) next(c byte) bool {
	if r.i < len(r.b) && r.b[r.i] == c {
		r.i++
		return true
	}
	return false
}

func (r *jsonReader) digits() int {
	start := r.i
	for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i - start
}

// text reads a string.
func (r *jsonReader) text() string {
	r.expect('"')
	start := r.i
	for r.i < len(r.b) && r.b[r.i] != '"' && r.b[r.i] != '\\' && r.b[r.i] >= ' ' {
		r.i++
	}
	plain := r.b[start:r.i]
	if r.next('"') {
		if !utf8.Valid(plain) {
			r.fail("the text is not UTF-8")
		}
		return string(plain)
	}
	return r.escaped(append([]byte(nil), plain...))
}

// escaped reads the rest of a string that holds escapes.
func (r *jsonReader) escaped(s []byte) string {
	for r.err == nil && r.i < len(r.b) {
		c := r.b[r.i]
		r.i++
		switch {
		case c == '"':
			if !utf8.Valid(s) {
				r.fail("the text is not UTF-8")
			}
			return string(s)
		case c < ' ':
			r.fail("a control character in a text")
		case c == '\\':
			s = r.escape(s)
		default:
			s = append(s, c)
		}
	}
	r.fail("the text has no end")
	return ""
}

func (r *jsonReader) escape(s []byte) []byte {
	if r.i >= len(r.b) {
		return s
	}
	c := r.b[r.i]
	r.i++
	switch c {
	case '"', '\\', '/':
		return append(s, c)
	case 'b':
		return append(s, '\b')
	case 'f':
		return append(s, '\f')
	case 'n':
		return append(s, '\n')
	case 'r':
		return append(s, '\r')
	case 't':
		return append(s, '\t')
	case 'u':
		return utf8.AppendRune(s, r.unicode())
	}
	r.fail("unknown escape")
	return s
}

func (r *jsonReader) unicode() rune {
	high := r.hex4()
	if !utf16.IsSurrogate(high) {
		return high
	}
	if r.next('\\') && r.next('u') {
		if c := utf16.DecodeRune(high, r.hex4()); c != utf8.RuneError {
			return c
		}
	}
	r.fail("half a surrogate pair")
	return utf8.RuneError
}

func (r *jsonReader) hex4() rune {
	if len(r.b)-r.i < 4 {
		r.fail("the text has no end")
		return 0
	}
	n, err := strconv.ParseUint(string(r.b[r.i:r.i+4]), 16, 16)
	if err != nil {
		r.fail("unknown escape")
	}
	r.i += 4
	return rune(n)
}
