package postgres

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestDelivery_8_SQLStatesHaveClasses(t *testing.T) {
	for state, want := range map[string]fault.Class{
		"28P01": fault.Auth, "28000": fault.Auth, "3D000": fault.Connection, "08006": fault.Intermittent,
		"57P01": fault.Intermittent, "57P03": fault.Intermittent, "40001": fault.Intermittent, "40P01": fault.Intermittent,
		"53300": fault.Intermittent, "53100": fault.Intermittent, "42P01": fault.SchemaDrift, "42703": fault.SchemaDrift,
		"42501": fault.SchemaDrift, "42601": fault.SchemaDrift, "22003": fault.Value, "22P02": fault.Value, "22P03": fault.SchemaDrift,
		"23502": fault.Missing, "23503": fault.Missing, "23505": fault.Duplicate, "23514": fault.Value, "54000": fault.TooLarge,
		"P0001": fault.Value, "XX000": fault.Internal, "": fault.Internal, "9": fault.Internal,
	} {
		if got := serverFault(&pgconn.PgError{Code: state}, working).Class; got != want {
			t.Errorf("%s: %s, want %s", state, got, want)
		}
	}
	if got := serverFault(&pgconn.PgError{Code: "42501"}, connecting).Class; got != fault.Auth {
		t.Errorf("42501 while connecting: %s", got)
	}
	f := serverFault(&pgconn.PgError{Code: "22001", Where: `COPY t, line 3, column note: "x"`}, working)
	if f.Field != "note" {
		t.Errorf("field %q", f.Field)
	}
}

// FuzzNumeric: whatever the server sends as a numeric is refused, or read and
// written back as the same number.
func FuzzNumeric(f *testing.F) {
	for _, text := range []string{"0", "1.50", "-0.0001", "12345678901234567890.5", "10000", "99999999"} {
		f.Add(appendNumericText(nil, []byte(text))[4:])
	}
	f.Add(appendNumericSpecial(nil, page.NaN)[4:])
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 200 {
			return
		}
		v, err := numericValue(raw)
		if err != nil {
			return
		}
		e := page.NewEncoder()
		e.Begin(page.NewShape("v"))
		if err := readNumeric(e, raw); err != nil {
			t.Fatal(err)
		}
		if err := e.End(); err != nil {
			return // beyond the format's range
		}
		records, err := page.DecodeAll(e.Finish(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !page.Equal(records[0].Values[0], v) {
			t.Fatalf("%x: as a cell %v, as a value %v", raw, records[0].Values[0], v)
		}
		written, err := appendNumericValue(nil, &v, maxScale)
		if err != nil {
			return
		}
		again, err := numericValue(written[4:])
		if err != nil || !page.Equal(again, v) && !isZero(v) {
			t.Fatalf("%x: %v became %v (%v)", raw, v, again, err)
		}
	})
}

func isZero(v page.Value) bool { return v.Special() == 0 && v.Decimal().IsZero() }

func FuzzArray(f *testing.F) {
	two := []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, oidInt4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255}
	f.Add(two, uint32(1007))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, oidInt4}, uint32(1007))
	f.Fuzz(func(t *testing.T, raw []byte, oid uint32) {
		element, ok := elements[oid]
		if !ok {
			return
		}
		v, err := parseArray(raw, oid, element)
		if err != nil || v.Kind() != page.KindArray {
			return
		}
		write := writerOf(&column{oid: oid, typmod: -1, element: element})
		written, err := write(nil, &v)
		if err != nil {
			return // a value inside has no binary form
		}
		again, err := parseArray(written[4:], oid, element)
		if err != nil || !page.Equal(again, v) && element != oidNumeric {
			t.Fatalf("%x: %v became %v (%v)", raw, v, again, err)
		}
	})
}

// TestHostile_3_WireLengths: every reader refuses values of a wrong length.
func TestHostile_3_WireLengths(t *testing.T) {
	for _, oid := range []uint32{oidBool, oidInt2, oidInt4, oidInt8, oidFloat4, oidFloat8, oidDate, oidTime,
		oidTimestamp, oidTimestamptz, oidInterval, oidUUID, oidNumeric, oidJSONB, 1007} {
		for _, n := range []int{0, 3, 5, 7, 9, 17} {
			e := page.NewEncoder()
			e.Begin(page.NewShape("v"))
			if err := readerOf(oid)(e, bytes.Repeat([]byte{9}, n)); err == nil {
				t.Errorf("type %d takes %d bytes", oid, n)
			}
		}
	}
	huge := binary.BigEndian.AppendUint32(nil, 6)
	huge = append(huge, 0, 0, 0, 0, 0, 0, 0, oidInt4)
	for range 6 {
		huge = append(huge, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1)
	}
	if _, err := parseArray(huge, 1007, oidInt4); err == nil {
		t.Error("an array of 2^186 elements is taken")
	}
}

func TestChunkWithout(t *testing.T) {
	for _, staged := range []bool{false, true} {
		table := &table{columns: map[string]*column{
			"a": {name: "a", oid: oidInt4, typmod: -1}, "b": {name: "b", oid: oidText, typmod: -1}, "c": {name: "c", oid: oidBool, typmod: -1},
		}, staged: staged}
		full := encoded(t, table, "a", "b", "c")
		for i, names := range [][]string{{"b", "c"}, {"a", "c"}, {"a", "b"}} {
			got, want := full.without(0, i), encoded(t, table, names...)
			if !bytes.Equal(got.body, want.body) || len(got.columns) != 2 {
				t.Errorf("staged %v, without %d: %x, want %x", staged, i, got.body, want.body)
			}
		}
	}
}
