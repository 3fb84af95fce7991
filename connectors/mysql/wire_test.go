package mysql

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"math"
	"testing"

	"github.com/go-sql-driver/mysql"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestDelivery_8_ErrorNumbersHaveClasses(t *testing.T) {
	for number, want := range map[uint16]fault.Class{
		1045: fault.Auth, 1698: fault.Auth, 1049: fault.Connection, 2002: fault.Connection, 2003: fault.Connection,
		2006: fault.Connection, 2013: fault.Connection, 1205: fault.Intermittent, 1213: fault.Intermittent,
		1040: fault.Intermittent, 1146: fault.SchemaDrift, 1054: fault.SchemaDrift, 1142: fault.SchemaDrift,
		1064: fault.SchemaDrift, 1062: fault.Duplicate, 1452: fault.Missing, 1048: fault.Missing, 1364: fault.Missing,
		1264: fault.Value, 1292: fault.Value, 1366: fault.Value, 1406: fault.Value, 4025: fault.Value, 3819: fault.Value,
		1153: fault.TooLarge, 3024: fault.Intermittent, 1969: fault.Intermittent, 1226: fault.RateLimit, 65000: fault.Internal,
	} {
		if got := serverFault(&mysql.MySQLError{Number: number}, working).Class; got != want {
			t.Errorf("%d: %s, want %s", number, got, want)
		}
	}
	if got := serverFault(&mysql.MySQLError{Number: 1044}, connecting).Class; got != fault.Auth {
		t.Errorf("1044 while connecting: %s", got)
	}
	if got := serverFault(&mysql.MySQLError{Number: 65000, SQLState: [5]byte([]byte("22001"))}, working).Class; got != fault.Value {
		t.Errorf("an unknown number of class 22: %s", got)
	}
	for message, want := range map[string]string{
		"Column 'v' cannot be null":                                                     "v",
		"Field 'the field' doesn't have a default value":                                "the field",
		"Incorrect integer value: 'x' for column `db`.`t`.`a b` at row 1":               "a b",
		"Data too long for column 'note' at row 3":                                      "note",
		"Duplicate entry 'secret' for key 'PRIMARY'":                                    "",
		"You have an error in your SQL syntax; check the manual that corresponds to it": "",
	} {
		if got := fieldOf(message); got != want {
			t.Errorf("%s: field %q, want %q", message, got, want)
		}
	}
	f := serverFault(&mysql.MySQLError{Number: 1062, Message: "Duplicate entry 'it's secret' for key 'PRIMARY'"}, working)
	if f.Cause != "Duplicate entry for key 'PRIMARY' (error 1062)" || f.Unwrap().Error() != "Duplicate entry for key 'PRIMARY'" {
		t.Errorf("cause %q", f.Cause)
	}
}

// FuzzGuard: whatever a server sends, in whatever cut, is judged the same.
func FuzzGuard(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x01\x02\x05\x00\x00\x02\x03defx"), byte(commandQuery), 1)
	f.Add([]byte("\x09\x00\x00\x01\xfe\x00\x00\x00\x00\x01\x00\x00\x00"), byte(commandExecute), 3)
	f.Add([]byte("\x07\x00\x00\x01\x00\x00\x00\x0a\x00\x00\x00\xff\xff\xff\x02"), byte(commandQuery), 5)
	f.Fuzz(func(t *testing.T, data []byte, command byte, cut int) {
		cut = max(1, cut%64)
		judge := func(step int) error {
			var g guard
			g.sent([]byte{1, 0, 0, 0, command})
			for b := bytes.Clone(data); len(b) > 0; {
				n := min(step, len(b))
				if err := g.received(b[:n], 0); err != nil {
					return err
				}
				b = b[n:]
			}
			return nil
		}
		if whole, parts := judge(len(data)+1), judge(cut); (whole == nil) != (parts == nil) {
			t.Fatalf("whole: %v; in parts of %d: %v", whole, cut, parts)
		}
	})
}

// FuzzDecimal: a decimal of the server is refused, or becomes a cell of the same
// text.
func FuzzDecimal(f *testing.F) {
	for _, text := range []string{"0", "-0.00", "1.50", "18446744073709551615", "-99999999999999999999.999", "1.8446744073709551616"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := page.NewEncoder()
		e.Begin(page.NewShape("v"))
		if len(raw) == 0 || readDecimal(e, raw) != nil {
			return
		}
		if err := e.End(); err != nil {
			t.Fatal(err)
		}
		records, err := page.DecodeAll(e.Finish(nil))
		if err != nil {
			t.Fatal(err)
		}
		want, err := page.DecimalFromString(string(raw))
		if err == nil && !page.Equal(records[0].Values[0], want) {
			t.Fatalf("%s became %v", raw, records[0].Values[0])
		}
	})
}

// FuzzMoment: a date is in the calendar and keeps its text, or it is foreign.
func FuzzMoment(f *testing.F) {
	for _, text := range []string{"2024-02-29 23:59:59.999999", "0000-00-00 00:00:00", "2023-02-29 00:00:00", "-838:59:59.5", "9999-12-31 24:00:00"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		us, ok := parseMoment(raw)
		if !ok {
			return
		}
		literal, err := appendMoment(nil, us, 6, "DATETIME")
		if err != nil {
			t.Fatal(err)
		}
		again, ok := parseMoment(bytes.Trim(literal, "'"))
		if !ok || again != us || !bytes.HasPrefix(raw, bytes.Trim(literal[:11], "'")) {
			t.Fatalf("%s became %s", raw, literal)
		}
	})
}

// FuzzKeyLiteral: nothing in a cursor gets out of its literal.
func FuzzKeyLiteral(f *testing.F) {
	f.Add(uint32(keyText), []byte(`'\' OR 1=1 -- `))
	f.Add(uint32(keyTimestamp), []byte("2024-01-01 00:00:00"))
	f.Add(uint32(keyDecimal), []byte("1.5"))
	f.Fuzz(func(t *testing.T, kind uint32, data []byte) {
		literal, ok := keyLiteral(sqldb.CursorValue{Type: kind, Data: data})
		if !ok {
			return
		}
		inside := false
		for i := 0; i < len(literal); i++ {
			switch c := literal[i]; {
			case c == '\\':
				t.Fatalf("%q has a backslash", literal)
			case c == '\'':
				inside = !inside
			case !inside && (c == ' ' && literal[:i] != "_utf8mb4" || c == ';' || c == '(' || c == '-' && i > 0 && literal[i-1] != 'e'):
				t.Fatalf("%q ends early", literal)
			}
		}
		if inside {
			t.Fatalf("%q does not end", literal)
		}
	})
}

// TestHostile_3_WrongValues: a reader refuses what is not of its type.
func TestHostile_3_WrongValues(t *testing.T) {
	for _, typeName := range []string{"INT", "UNSIGNED BIGINT", "BIT", "FLOAT", "DOUBLE", "DECIMAL", "TIME", "GEOMETRY", "uuid"} {
		read, _ := readerOf(typeName)
		for _, v := range []driver.Value{true, "text", []byte("no value of this type"), []byte{}, uint64(math.MaxUint64)} {
			e := page.NewEncoder()
			e.Begin(page.NewShape("v"))
			if err := read(e, v); err == nil && typeName != "BIT" && typeName != "DECIMAL" {
				t.Errorf("%s takes %T %v", typeName, v, v)
			}
		}
	}
	for _, text := range []string{"", "01", "00", "0101000000", "zz", "0101000020e6"} {
		if _, err := parseGeometry(text); (err == nil) != (text == "0101000000") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, ok := keyLiteral(sqldb.CursorValue{Type: uint32(keyInteger), Data: binary.BigEndian.AppendUint32(nil, 1)}); ok {
		t.Error("a cursor of another length is taken")
	}
}
