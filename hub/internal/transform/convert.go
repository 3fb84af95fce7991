package transform

import (
	"encoding/hex"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"ropeway/protocol/page"
)

// fromValue gives an expression the form of a value that it computes with: nil,
// bool, int, float64, string and lists plainly; every other kind stays a
// page.Value, so that it passes through unchanged.
func fromValue(v page.Value) any {
	switch v.Kind() {
	case page.KindNull:
		return nil
	case page.KindBool:
		return v.Bool()
	case page.KindInt64:
		return int(v.Int())
	case page.KindUint64:
		if u := v.Uint(); u <= math.MaxInt64 {
			return int(u)
		}
	case page.KindFloat64:
		return v.Float()
	case page.KindString:
		return v.Text()
	case page.KindArray:
		items := v.Items()
		list := make([]any, len(items))
		for i := range items {
			list[i] = fromValue(items[i])
		}
		return list
	}
	return v
}

// toValue turns the result of an expression into a value: bool, int64, float64,
// decimal, string, array and object, or the kind that a field had.
func toValue(x any) (page.Value, error) {
	switch v := x.(type) {
	case nil:
		return page.Null(), nil
	case bool:
		return page.Bool(v), nil
	case int:
		return page.Int(int64(v)), nil
	case float64:
		return page.Float(v), nil
	case string:
		return page.String(v), nil
	case page.Value:
		return v, nil
	case []any:
		return toArray(v)
	case []int:
		items := make([]page.Value, len(v))
		for i := range v {
			items[i] = page.Int(int64(v[i]))
		}
		return page.Array(items), nil
	case []string:
		items := make([]page.Value, len(v))
		for i := range v {
			items[i] = page.String(v[i])
		}
		return page.Array(items), nil
	case map[string]any:
		return toObject(v)
	}
	return page.Value{}, fmt.Errorf("the expression gives %s, which a record cannot hold", kindOf(x))
}

func toArray(list []any) (page.Value, error) {
	items := make([]page.Value, len(list))
	for i := range list {
		v, err := toValue(list[i])
		if err != nil {
			return page.Value{}, err
		}
		items[i] = v
	}
	return page.Array(items), nil
}

// toObject sorts the names, so that the same expression gives the same bytes.
func toObject(m map[string]any) (page.Value, error) {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	values := make([]page.Value, len(names))
	for i, name := range names {
		v, err := toValue(m[name])
		if err != nil {
			return page.Value{}, err
		}
		values[i] = v
	}
	return page.Object(page.NewShape(names...), values), nil
}

// kindOf names the kind of anything in an expression, in the words of records.
func kindOf(x any) string {
	switch v := x.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case int:
		return "int64"
	case float64:
		return "float64"
	case string:
		return "string"
	case page.Value:
		return v.Kind().String()
	case []any, []int, []string:
		return "array"
	case map[string]any:
		return "object"
	}
	return "an unknown value"
}

// Layouts of the texts that dates and times have and are read from.
const (
	dateLayout  = "2006-01-02"
	clockLayout = "15:04:05.999999"
	localLayout = "2006-01-02T15:04:05.999999"
	zonedLayout = "2006-01-02T15:04:05.999999Z07:00"
)

// valueText is the text of a value, as string() gives it.
func valueText(v page.Value) string {
	switch v.Kind() {
	case page.KindDecimal:
		if d := v.Decimal(); v.Special() == 0 && d.Exponent <= 0 {
			return d.Text('f')
		}
		return v.Decimal().String()
	case page.KindUint64:
		return strconv.FormatUint(v.Uint(), 10)
	case page.KindFloat32:
		return strconv.FormatFloat(v.Float(), 'g', -1, 32)
	case page.KindDate:
		return v.GoTime().Format(dateLayout)
	case page.KindTime:
		return v.GoTime().Format(clockLayout)
	case page.KindLocalTimestamp:
		return v.GoTime().Format(localLayout)
	case page.KindTimestamp:
		return v.GoTime().Format(zonedLayout)
	case page.KindUUID:
		u := v.UUID()
		h := hex.EncodeToString(u[:])
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	case page.KindJSON, page.KindForeign:
		return v.Text()
	}
	return string(v.AppendJSON(nil))
}

// parseAs reads a text as a date, time, local timestamp, timestamp or uuid.
func parseAs(kind page.Kind, text string) (page.Value, error) {
	bad := fmt.Errorf("%q is not a %s", clip(text), kind)
	if kind == page.KindUUID {
		b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
		if err != nil || len(b) != 16 {
			return page.Value{}, bad
		}
		return page.UUID([16]byte(b)), nil
	}
	text = strings.Replace(text, " ", "T", 1)
	layouts := map[page.Kind][]string{
		page.KindDate:           {dateLayout, localLayout, zonedLayout},
		page.KindTime:           {clockLayout, "15:04"},
		page.KindLocalTimestamp: {localLayout, dateLayout},
		page.KindTimestamp:      {zonedLayout, localLayout, dateLayout},
	}
	for _, layout := range layouts[kind] {
		t, err := time.Parse(layout, text)
		if err != nil || t.Year() < 1 && kind != page.KindTime {
			continue
		}
		switch kind {
		case page.KindDate:
			return page.DateOf(t), nil
		case page.KindTime:
			return page.Time(int64(t.Hour())*3600e6 + int64(t.Minute())*60e6 +
				int64(t.Second())*1e6 + int64(t.Nanosecond()/1000)), nil
		case page.KindLocalTimestamp:
			return page.LocalTimestampOf(t), nil
		}
		return page.TimestampOf(t), nil
	}
	return page.Value{}, bad
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
