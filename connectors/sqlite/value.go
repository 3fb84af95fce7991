package sqlite

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// An affinity is the kind of values that a column prefers
// (sqlite.org/datatype3.html §3.1).
type affinity int

const (
	blob affinity = iota // none: values stay as they are
	text
	numeric
	integer
	real
)

func affinityOf(declared string) affinity {
	d := strings.ToUpper(declared)
	switch {
	case strings.Contains(d, "INT"):
		return integer
	case strings.Contains(d, "CHAR"), strings.Contains(d, "CLOB"), strings.Contains(d, "TEXT"):
		return text
	case d == "", strings.Contains(d, "BLOB"), d == "ANY":
		return blob
	case strings.Contains(d, "REAL"), strings.Contains(d, "FLOA"), strings.Contains(d, "DOUB"):
		return real
	}
	return numeric
}

// bind is what is bound for a value. SQLite would round numbers silently to
// what a column prefers; a value that does not survive that is E_VALUE.
func bind(v *page.Value, a affinity, declared string) (any, error) {
	switch v.Kind() {
	case page.KindNull:
		return nil, nil
	case page.KindBytes:
		return v.Bytes(), nil
	case page.KindBool, page.KindInt64, page.KindUint64, page.KindFloat32, page.KindFloat64,
		page.KindDecimal:
		return bindNumber(v, a)
	case page.KindString, page.KindForeign:
		if looksNumeric(v.Text()) && a >= numeric {
			s := page.String(v.Text())
			return bindNumber(&s, a)
		}
	case page.KindUUID:
		if strings.Contains(strings.ToUpper(declared), "BLOB") {
			u := v.UUID()
			return u[:], nil
		}
	}
	if a == integer || a == real {
		return nil, badValue("is not a number")
	}
	b, ok := sqldb.AppendText(nil, v)
	if !ok {
		return nil, badValue("is of kind " + v.Kind().String() + ", which has no place in a column")
	}
	return string(b), nil
}

func bindNumber(v *page.Value, a affinity) (any, error) {
	if a == text {
		b, _ := sqldb.AppendText(nil, v)
		return string(b), nil
	}
	if i, exact := sqldb.Integer(v); exact && isWhole(v) && a != real {
		return i, nil
	}
	if a == integer {
		return nil, badValue("is not a whole number that fits 64 bits")
	}
	if a == blob && (v.Kind() == page.KindDecimal || v.Kind() == page.KindUint64) {
		b, _ := sqldb.AppendText(nil, v)
		return string(b), nil
	}
	f, err := sqldb.Float(v, 64)
	switch {
	case err != nil:
		return nil, badValue(err.Error())
	case math.IsNaN(f):
		return nil, badValue("is NaN, which SQLite turns into null")
	case a == numeric && v.Kind() != page.KindFloat32 && v.Kind() != page.KindFloat64 && !sameNumber(v, f):
		return nil, badValue("has more digits than a number of SQLite holds; a TEXT column keeps them")
	}
	return f, nil
}

// isWhole reports whether binding the integer loses nothing that people see:
// 1.0 as a float stays a float, 1.50 is never an integer.
func isWhole(v *page.Value) bool {
	return v.Kind() != page.KindFloat32 && v.Kind() != page.KindFloat64
}

// sameNumber reports whether the float has exactly the digits of v.
func sameNumber(v *page.Value, f float64) bool {
	want, err := sqldb.Decimal(v)
	if err != nil || want.Special() != 0 {
		return err == nil
	}
	have, err := page.DecimalFromString(strconv.FormatFloat(f, 'e', -1, 64))
	return err == nil && have.Decimal().Cmp(want.Decimal()) == 0
}

func looksNumeric(s string) bool {
	if s == "" || len(s) > 400 || strings.ContainsAny(s, "xX_pPnN") {
		return false
	}
	_, err := strconv.ParseFloat(s, 64)
	return err == nil || errors.Is(err, strconv.ErrRange)
}

func badValue(why string) *fault.Error {
	return fault.Of("E_VALUE").WithSource(name).WithCause("the value " + why)
}
