package odata

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"

	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

// A complaint is what an error body says, in either version.
type complaint struct {
	Code    string
	Message string
	Target  string
	Details []complaint
}

// The forms of error bodies: JSON of version 4 and 2, XML of version 2.
type (
	jsonComplaint struct {
		Code     json.RawMessage `json:"code"`
		Message  json.RawMessage `json:"message"`
		Target   string          `json:"target"`
		Property string          `json:"propertyref"`
		Details  []jsonComplaint `json:"details"`
		Inner    struct {
			Details []jsonComplaint `json:"errordetails"`
		} `json:"innererror"`
	}
	xmlComplaint struct {
		XMLName xml.Name `xml:"error"`
		Code    string   `xml:"code"`
		Message string   `xml:"message"`
		Inner   struct {
			Details []struct {
				Code     string `xml:"code"`
				Message  string `xml:"message"`
				Target   string `xml:"target"`
				Property string `xml:"propertyref"`
			} `xml:"errordetails>errordetail"`
		} `xml:"innererror"`
	}
)

const (
	maxDetails = 20
	maxShown   = 300 // characters of one message
)

// parseComplaint reads an error body; ok is false when it is none.
func parseComplaint(body []byte) (complaint, bool) {
	var doc struct {
		Error *jsonComplaint `json:"error"`
	}
	if json.Unmarshal(body, &doc) == nil && doc.Error != nil {
		return doc.Error.plain(0), true
	}
	var x xmlComplaint
	if xml.Unmarshal(body, &x) != nil {
		return complaint{}, false
	}
	c := complaint{Code: x.Code, Message: x.Message}
	for _, d := range x.Inner.Details[:min(len(x.Inner.Details), maxDetails)] {
		c.Details = append(c.Details, complaint{Code: d.Code, Message: d.Message, Target: firstOf(d.Target, d.Property)})
	}
	return c, true
}

func (j *jsonComplaint) plain(depth int) complaint {
	c := complaint{Code: looseText(j.Code), Message: looseText(j.Message), Target: firstOf(j.Target, j.Property)}
	if depth > 0 {
		return c
	}
	for _, list := range [][]jsonComplaint{j.Details, j.Inner.Details} {
		for i := range list[:min(len(list), maxDetails)] {
			c.Details = append(c.Details, list[i].plain(1))
		}
	}
	return c
}

// looseText reads "text", a number, or version 2's {"lang": …, "value": "text"}.
func looseText(raw json.RawMessage) string {
	var s string
	var valued struct{ Value string }
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return s
	case json.Unmarshal(raw, &valued) == nil && valued.Value != "":
		return valued.Value
	}
	return strings.Trim(string(raw), "{}[] ")
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// faultOf makes a fault of an answer that is not a success. s, if not nil, is
// what the request was about: it tells which target is a field.
func (c *conn) faultOf(a *httpapi.Answer, s *structure) *fault.Error {
	f := a.Fault(c.env.Clock())
	said, ok := parseComplaint(a.Body)
	if !ok {
		return f
	}
	if code := said.faultCode(); code != "" && (a.Status == 400 || a.Status == 409 || a.Status == 422 || a.Status == 500) {
		f = fault.Of(code).WithSource(name)
	}
	f = f.WithCause(said.text(a.Status))
	if s != nil {
		f = f.WithField(said.field(s))
	}
	return f
}

// text is the message for people, with the code that SAP's notes are found by.
func (c complaint) text(status int) string {
	messages := []string{httpapi.Plain(c.Message, maxShown)}
	for _, d := range c.Details {
		m := httpapi.Plain(d.Message, maxShown)
		if m == "" || len(messages) > 3 || contains(messages, m) {
			continue
		}
		messages = append(messages, m)
	}
	text := strings.Trim(strings.Join(messages, "; "), "; ")
	if text == "" {
		text = "no message"
	}
	if code := httpapi.Plain(c.Code, 80); code != "" {
		return fmt.Sprintf("%s (HTTP status %d, code %s)", text, status, code)
	}
	return fmt.Sprintf("%s (HTTP status %d)", text, status)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// faultCode is what SAP's code says about the record; "" = nothing known.
func (c complaint) faultCode() string {
	for _, one := range append([]complaint{c}, c.Details...) {
		upper := strings.ToUpper(one.Code)
		for _, known := range codeWords {
			if strings.Contains(upper, known.word) {
				return known.code
			}
		}
	}
	return ""
}

// codeWords are parts of codes of CAP, of databases behind it and of RAP, most
// telling first.
var codeWords = []struct{ word, code string }{
	{"NOT_NULL", "E_MISSING"}, {"NOTNULL", "E_MISSING"}, {"MANDATORY", "E_MISSING"},
	{"ASSERT_TARGET", "E_MISSING"}, {"FOREIGN", "E_MISSING"}, {"REFERENCE_INTEGRITY", "E_MISSING"},
	{"UNIQUE", "E_DUPLICATE"}, {"DUPLICATE", "E_DUPLICATE"}, {"PRIMARYKEY", "E_DUPLICATE"},
	{"ALREADY_EXISTS", "E_DUPLICATE"},
	{"ASSERT_", "E_VALUE"}, {"CONSTRAINT", "E_VALUE"},
}

// field is the property that the error names: "status", "/#TRANSIENT#/status",
// "Order/status" after the name of the type, "items(pos=1)/price" (then it is
// items).
func (c complaint) field(s *structure) string {
	short := s.name[strings.LastIndexByte(s.name, '.')+1:]
	for _, one := range append([]complaint{c}, c.Details...) {
		target := strings.TrimPrefix(strings.TrimPrefix(one.Target, "/#TRANSIENT#"), "/")
		path := strings.Split(strings.TrimPrefix(target, short+"/"), "/")
		for _, part := range path {
			part, _, _ = strings.Cut(part, "(")
			if s.byName[part] != nil {
				return part
			}
		}
	}
	return ""
}
