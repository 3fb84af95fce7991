package transform

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"ropeway/protocol/page"
)

func (m *machine) texts(table map[string]function) {
	table["$string"] = func(a ...any) (any, error) { return m.text(textOf(a[0])) }
	table["$type"] = func(a ...any) (any, error) { return kindOf(a[0]), nil }
	table["$replace"] = func(a ...any) (any, error) { return m.replace(a) }
	table["$repeat"] = func(a ...any) (any, error) { return m.repeat(a[0], a[1]) }
	table["$join"] = func(a ...any) (any, error) { return m.join(a) }
	table["$toJSON"] = func(a ...any) (any, error) {
		v, err := toValue(a[0])
		if err != nil {
			return nil, err
		}
		return m.text(string(v.AppendJSON(nil)))
	}
	table["$fromJSON"] = func(a ...any) (any, error) {
		s, err := needText(a[0])
		if err != nil {
			return nil, err
		}
		v, err := page.ParseJSON([]byte(s))
		if err != nil {
			return nil, fmt.Errorf("the text is not JSON: %w", err)
		}
		return fromValue(v), m.charge(8 * len(s))
	}
	for name, holds := range map[string]func(s, part string) bool{
		"$contains": strings.Contains, "$startsWith": strings.HasPrefix, "$endsWith": strings.HasSuffix,
	} {
		table[name] = func(a ...any) (any, error) {
			s, part, err := twoTexts(a[0], a[1])
			if err != nil {
				return nil, err
			}
			return holds(s, part), m.spend(1 + len(s)/256)
		}
	}
	table["$matches"] = func(a ...any) (any, error) { return m.matches(a[0], a[1]) }
	for name, kind := range map[string]page.Kind{"$date": page.KindDate, "$time": page.KindTime,
		"$timestamp": page.KindTimestamp, "$localTimestamp": page.KindLocalTimestamp} {
		table[name] = func(a ...any) (any, error) { return asTime(kind, a[0]) }
	}
}

// textOf is what string() gives for any value; null is "".
func textOf(x any) string {
	switch v := x.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	v, err := toValue(x)
	if err != nil {
		return ""
	}
	return valueText(v)
}

func needText(x any) (string, error) {
	s, ok := x.(string)
	if !ok {
		return "", fmt.Errorf("a text is needed, not %s; string(…) makes one", kindOf(x))
	}
	return s, nil
}

func twoTexts(a, b any) (string, string, error) {
	s, err := needText(a)
	if err != nil {
		return "", "", err
	}
	t, err := needText(b)
	return s, t, err
}

func (m *machine) replace(a []any) (any, error) {
	s, old, err := twoTexts(a[0], a[1])
	if err != nil {
		return nil, err
	}
	with, err := needText(a[2])
	if err != nil {
		return nil, err
	}
	limit := -1
	if len(a) == 4 {
		n, ok := a[3].(int)
		if !ok {
			return nil, fmt.Errorf("the number of replacements is a whole number, not %s", kindOf(a[3]))
		}
		limit = n
	}
	hits := strings.Count(s, old)
	if limit >= 0 {
		hits = min(hits, limit)
	}
	if len(s)+hits*max(0, len(with)-len(old)) > maxText {
		return nil, errTextTooLong
	}
	return m.text(strings.Replace(s, old, with, limit))
}

func (m *machine) repeat(a, b any) (any, error) {
	s, err := needText(a)
	if err != nil {
		return nil, err
	}
	n, ok := b.(int)
	if !ok || n < 0 {
		return nil, fmt.Errorf("repeat needs a whole number from 0")
	}
	if len(s) > 0 && n > maxText/len(s) {
		return nil, errTextTooLong
	}
	return m.text(strings.Repeat(s, n))
}

func (m *machine) join(a []any) (any, error) {
	items, err := list(a[0])
	if err != nil {
		return nil, err
	}
	sep := ""
	if len(a) == 2 {
		if sep, err = needText(a[1]); err != nil {
			return nil, err
		}
	}
	var out strings.Builder
	for i, item := range items {
		s, err := needText(item)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteString(sep)
		}
		out.WriteString(s)
		if out.Len() > maxText {
			break
		}
	}
	return m.text(out.String())
}

func (m *machine) matches(a, b any) (any, error) {
	s, err := needText(a)
	if err != nil {
		return nil, err
	}
	re, compiled := b.(*regexp.Regexp)
	if !compiled {
		text, err := needText(b)
		if err != nil {
			return nil, err
		}
		if len(text) > 1000 {
			return nil, fmt.Errorf("the pattern is longer than 1000 characters")
		}
		if re, err = regexp.Compile(text); err != nil {
			return nil, fmt.Errorf("the pattern is not valid: %w", err)
		}
		if err := m.spend(100); err != nil {
			return nil, err
		}
	}
	return re.MatchString(s), m.spend(1 + len(s)/16)
}

// asTime reads a text, or takes the date or time out of another kind of time.
func asTime(kind page.Kind, x any) (any, error) {
	if s, ok := x.(string); ok {
		v, err := parseAs(kind, s)
		return v, err
	}
	v, ok := x.(page.Value)
	if !ok {
		return nil, fmt.Errorf("%s cannot be read as a %s", kindOf(x), kind)
	}
	if v.Kind() == kind {
		return v, nil
	}
	stamp := v.Kind() == page.KindTimestamp || v.Kind() == page.KindLocalTimestamp
	switch {
	case kind == page.KindDate && stamp:
		return page.DateOf(v.GoTime()), nil
	case kind == page.KindTime && stamp:
		return parseAs(kind, v.GoTime().Format(clockLayout))
	case kind == page.KindLocalTimestamp && (stamp || v.Kind() == page.KindDate):
		return page.LocalTimestampOf(v.GoTime()), nil
	case kind == page.KindTimestamp && (stamp || v.Kind() == page.KindDate):
		return page.TimestampOf(v.GoTime()), nil
	}
	return nil, fmt.Errorf("%s cannot be read as a %s", kindOf(x), kind)
}
