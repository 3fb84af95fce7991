package mysql_test

import (
	"math"
	"strings"
	"time"

	"ropeway/connectors/connectortest"
	"ropeway/protocol/page"
)

type (
	sample struct {
		sql  string
		want page.Value
	}
	column struct {
		Type    string
		Samples []sample
	}
)

func contract(columns []column) []connectortest.Column {
	out := make([]connectortest.Column, len(columns))
	for i, c := range columns {
		out[i].Type = c.Type
		for _, s := range c.Samples {
			out[i].Samples = append(out[i].Samples, connectortest.Sample{SQL: s.sql, Want: s.want})
		}
	}
	return out
}

func decimal(s string) page.Value {
	d, err := page.DecimalFromString(s)
	if err != nil {
		panic(err)
	}
	return d
}

func micros(s string) int64 {
	t, err := time.Parse("2006-01-02T15:04:05.999999", s)
	if err != nil {
		panic(err)
	}
	return t.UnixMicro()
}

func day(s string) page.Value {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		panic(err)
	}
	return page.DateOf(t)
}

func local(s string) page.Value { return page.LocalTimestamp(micros(s)) }
func zoned(s string) page.Value { return page.Timestamp(micros(s), 0) }

const hour = int64(3_600_000_000)

// columns are all types with cells of their own at their extremes, and others.
func columns() []column {
	nines := strings.Repeat("9", 35) + "." + strings.Repeat("9", 30)
	point := "0101000000000000000000f83f00000000000000c0"
	ewkb := "0101000020e6100000000000000000f83f00000000000000c0"
	return []column{
		{"boolean", []sample{{"true", page.Int(1)}, {"false", page.Int(0)}, {"-128", page.Int(-128)}}},
		{"tinyint unsigned", []sample{{"255", page.Int(255)}, {"0", page.Int(0)}}},
		{"smallint", []sample{{"-32768", page.Int(-32768)}, {"32767", page.Int(32767)}}},
		{"smallint unsigned", []sample{{"65535", page.Int(65535)}}},
		{"mediumint", []sample{{"-8388608", page.Int(-8388608)}, {"8388607", page.Int(8388607)}}},
		{"mediumint unsigned", []sample{{"16777215", page.Int(16777215)}}},
		{"int", []sample{{"-2147483648", page.Int(math.MinInt32)}, {"2147483647", page.Int(math.MaxInt32)}}},
		{"int unsigned zerofill", []sample{{"4294967295", page.Int(math.MaxUint32)}, {"7", page.Int(7)}}},
		{"bigint", []sample{{"-9223372036854775808", page.Int(math.MinInt64)}, {"9223372036854775807", page.Int(math.MaxInt64)}}},
		{"bigint unsigned", []sample{{"18446744073709551615", page.Uint(math.MaxUint64)}, {"0", page.Uint(0)},
			{"9223372036854775808", page.Uint(1 << 63)}}},
		{"year", []sample{{"1901", page.Int(1901)}, {"2155", page.Int(2155)}, {"0", page.Int(0)}}},
		{"bit(1)", []sample{{"1", page.Uint(1)}, {"0", page.Uint(0)}}},
		{"bit(12)", []sample{{"b'101000000001'", page.Uint(0xa01)}}},
		{"bit(64)", []sample{{"18446744073709551615", page.Uint(math.MaxUint64)}}},
		{"float", []sample{{"3.4028234663852886e38", page.Float32(math.MaxFloat32)}, {"0.1", page.Float32(0.1)},
			{"16777217", page.Float32(16777216)}, {"1.17549435e-38", page.Float32(1.17549435e-38)}}},
		{"double", []sample{{"1.7976931348623157e308", page.Float(math.MaxFloat64)}, {"0.1", page.Float(0.1)},
			{"2.2250738585072014e-308", page.Float(2.2250738585072014e-308)},
			{"123456789.12345679", page.Float(123456789.12345679)}}},
		{"decimal(12,2)", []sample{{"9999999999.99", decimal("9999999999.99")}, {"-0.01", decimal("-0.01")}, {"3", decimal("3.00")}}},
		{"decimal(65,30)", []sample{{nines, decimal(nines)}, {"-" + nines, decimal("-" + nines)},
			{"0", decimal("0." + strings.Repeat("0", 30))}}},
		{"decimal(65,0)", []sample{{strings.Repeat("9", 65), decimal(strings.Repeat("9", 65))}, {"18446744073709551616", decimal("18446744073709551616")}}},
		{"decimal(30,30)", []sample{{"0.000000000000000000000000000001", decimal("0.000000000000000000000000000001")}}},
		{"text", []sample{{"''", page.String("")}, {"'Größe 😀 ''quoted'' \"x\" \\\\ \t'", page.String("Größe 😀 'quoted' \"x\" \\ \t")},
			{"'a\\nb\\rc\\0d'", page.String("a\nb\rc\x00d")}, {"repeat('x', 60000)", page.String(strings.Repeat("x", 60000))}}},
		{"longtext", []sample{{"repeat('ü''', 200000)", page.String(strings.Repeat("ü'", 200000))}}},
		{"varchar(10)", []sample{{"'äöü'", page.String("äöü")}, {"'  x  '", page.String("  x  ")}, {"'007'", page.String("007")}}},
		{"varchar(10) CHARACTER SET latin1", []sample{{"'Größe €'", page.String("Größe €")}}},
		{"varchar(10) CHARACTER SET utf16", []sample{{"'Größe 😀'", page.String("Größe 😀")}}},
		{"varchar(10) COLLATE utf8mb4_bin", []sample{{"'Ab'", page.String("Ab")}}},
		{"char(5)", []sample{{"'ab'", page.String("ab")}}},
		{"enum('new','it''s','done')", []sample{{"'it''s'", page.String("it's")}, {"3", page.String("done")}}},
		{"set('a','b','c')", []sample{{"'a,c'", page.String("a,c")}, {"''", page.String("")}}},
		{"binary(4)", []sample{{"x'00ff'", page.Bytes([]byte{0, 255, 0, 0})}}},
		{"varbinary(100)", []sample{{"''", page.Bytes([]byte{})}, {"x'00ff0a5c27'", page.Bytes([]byte{0, 255, 10, '\\', '\''})}}},
		{"blob", []sample{{"x'80'", page.Bytes([]byte{128})}}},
		{"longblob", []sample{{"repeat(x'00ff', 300000)", page.Bytes([]byte(strings.Repeat("\x00\xff", 300000)))}}},
		{"date", []sample{{"'0001-01-01'", day("0001-01-01")}, {"'9999-12-31'", day("9999-12-31")}, {"'2024-02-29'", day("2024-02-29")},
			{"'0000-00-00'", page.Foreign("date", "0000-00-00")}, {"'2024-00-15'", page.Foreign("date", "2024-00-15")},
			{"'0000-05-01'", page.Foreign("date", "0000-05-01")}}},
		{"datetime", []sample{{"'0001-01-01 00:00:00'", local("0001-01-01T00:00:00")}, {"'9999-12-31 23:59:59'", local("9999-12-31T23:59:59")},
			{"'2024-03-31 02:30:00'", local("2024-03-31T02:30:00")}, // skipped in Berlin
			{"'0000-00-00 00:00:00'", page.Foreign("datetime", "0000-00-00 00:00:00")},
			{"'2024-05-00 12:30:00'", page.Foreign("datetime", "2024-05-00 12:30:00")}}},
		{"datetime(3)", []sample{{"'1969-12-31 23:59:59.999'", local("1969-12-31T23:59:59.999")}}},
		{"datetime(6)", []sample{{"'9999-12-31 23:59:59.999999'", local("9999-12-31T23:59:59.999999")}, {"'1969-12-31 23:59:59.000001'", local("1969-12-31T23:59:59.000001")},
			{"'0000-00-00 00:00:00'", page.Foreign("datetime", "0000-00-00 00:00:00.000000")}}},
		{"timestamp NULL", []sample{{"'1970-01-01 00:00:01'", page.Timestamp(1_000_000, 0)}, {"'2038-01-19 03:14:07'", zoned("2038-01-19T03:14:07")},
			{"'2024-03-31 02:30:00'", zoned("2024-03-31T02:30:00")},
			{"'0000-00-00 00:00:00'", page.Foreign("timestamp", "0000-00-00 00:00:00")}}},
		{"timestamp(6) NULL", []sample{{"'2024-02-29 12:30:00.000001'", zoned("2024-02-29T12:30:00.000001")}}},
		{"time", []sample{{"'00:00:00'", page.Time(0)}, {"'23:59:59'", page.Time(86_399_000_000)}, {"'24:00:00'", page.Interval(0, 0, 24*hour)},
			{"'838:59:59'", page.Interval(0, 0, 839*hour-1_000_000)}, {"'-838:59:59'", page.Interval(0, 0, -839*hour+1_000_000)},
			{"'-00:00:01'", page.Interval(0, 0, -1_000_000)}}},
		{"time(6)", []sample{{"'23:59:59.999999'", page.Time(86_399_999_999)}, {"'-100:00:00.000001'", page.Interval(0, 0, -100*hour-1)}}},
		{"geometry", []sample{{"ST_GeomFromText('POINT(1.5 -2)')", page.Foreign("geometry", point)},
			{"ST_GeomFromText('POINT(1.5 -2)', 4326)", page.Foreign("geometry", ewkb)},
			{"ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1.5 -2))')", page.Foreign("geometry", "010700000001000000"+point)}}},
		{"point", []sample{{"ST_GeomFromText('POINT(1.5 -2)')", page.Foreign("geometry", point)}}},
	}
}

// ownColumns are types that MariaDB sends as text; they are known when a table
// is read by name.
func ownColumns() []column {
	uuid := [16]byte{0xf4, 0x7a, 0xc1, 0x0b, 0x58, 0xcc, 0x43, 0x72, 0xa5, 0x67, 0x0e, 0x02, 0xb2, 0xc3, 0xd4, 0x79}
	return []column{
		{"json", []sample{{`'{"b": 1.10,  "a": [null], "a": 12345678901234567890.5, "t": "\\u00fc\\n"}'`,
			page.JSON([]byte(`{"b": 1.10,  "a": [null], "a": 12345678901234567890.5, "t": "\u00fc\n"}`))}, {"'null'", page.JSON([]byte("null"))}}},
		{"uuid", []sample{{"'f47ac10b-58cc-4372-a567-0e02b2c3d479'", page.UUID(uuid)}}},
		{"inet6", []sample{{"'2001:db8::1'", page.Foreign("inet6", "2001:db8::1")}}},
		{"inet4", []sample{{"'192.168.0.1'", page.Foreign("inet4", "192.168.0.1")}}},
	}
}

func casts() []connectortest.Cast {
	return []connectortest.Cast{
		{Type: "smallint", Value: page.Uint(7), Text: "7"},
		{Type: "int", Value: decimal("12.00"), Text: "12"},
		{Type: "bigint", Value: page.String("-9223372036854775808"), Text: "-9223372036854775808"},
		{Type: "bigint", Value: page.Float(1e15), Text: "1000000000000000"},
		{Type: "bigint unsigned", Value: page.String("18446744073709551615"), Text: "18446744073709551615"},
		{Type: "bigint unsigned", Value: decimal("18446744073709551615.000"), Text: "18446744073709551615"},
		{Type: "boolean", Value: page.Bool(true), Text: "1"},
		{Type: "decimal(30,5)", Value: page.Uint(math.MaxUint64), Text: "18446744073709551615.00000"},
		{Type: "decimal(30,5)", Value: page.Float(0.1), Text: "0.10000"},
		{Type: "decimal(5,2)", Value: page.String("1.5"), Text: "1.50"},
		{Type: "decimal(5,2)", Value: decimal("1.5000"), Text: "1.50"},
		{Type: "decimal(5,0)", Value: decimal("1E+2"), Text: "100"},
		{Type: "decimal(5,2)", Value: decimal("0E-50"), Text: "0.00"},
		{Type: "double", Value: decimal("0.1"), Text: "0.1"},
		{Type: "double", Value: page.Int(1 << 53), Text: "9.007199254740992e+15"},
		{Type: "text", Value: page.Int(-5), Text: "-5"},
		{Type: "text", Value: decimal("1E+5"), Text: "100000"},
		{Type: "text", Value: page.Bool(true), Text: "true"},
		{Type: "text", Value: page.Timestamp(0, 3600), Text: "1970-01-01T01:00:00+01:00"},
		{Type: "text", Value: page.Interval(14, -3, 14_706_789_000), Text: "P14M-3DT4H5M6.789S"},
		{Type: "varchar(3)", Value: page.String("ü'\\"), Text: `ü'\`},
		{Type: "char(36)", Value: page.UUID([16]byte{15: 1}), Text: "00000000-0000-0000-0000-000000000001"},
		{Type: "binary(16)", Value: page.UUID([16]byte{15: 'x'}), Text: strings.Repeat("\x00", 15) + "x"},
		{Type: "uuid", Value: page.String("F47AC10B-58cc-4372-a567-0e02b2c3d479"), Text: "f47ac10b-58cc-4372-a567-0e02b2c3d479"},
		{Type: "varbinary(5)", Value: page.String(`\x4142`), Text: "AB"},
		{Type: "date", Value: page.String("2024-02-29"), Text: "2024-02-29"},
		{Type: "time", Value: page.String("12:30"), Text: "12:30:00"},
		{Type: "time", Value: page.Interval(0, 2, hour), Text: "49:00:00"},
		{Type: "datetime(1)", Value: page.String("2024-02-29T12:30:00.5"), Text: "2024-02-29 12:30:00.5"},
		{Type: "datetime", Value: day("2024-02-29"), Text: "2024-02-29 00:00:00"},
		{Type: "datetime", Value: page.Timestamp(0, 3600), Text: "1970-01-01 00:00:00"},
		{Type: "timestamp NULL", Value: page.String("2024-02-29T12:30:00+02:00"), Text: "2024-02-29 10:30:00"},
		{Type: "timestamp NULL", Value: page.Timestamp(hour, -7200), Text: "1970-01-01 01:00:00"},
		{Type: "json", Value: page.Object(page.NewShape("n", "t"), []page.Value{decimal("1.10"), page.String("ü\n\"")}),
			Text: `{"n":1.10,"t":"ü\u000a\""}`},
		{Type: "json", Value: page.String(`{"a" : 1}`), Text: `{"a" : 1}`},
		{Type: "bit(4)", Value: page.Foreign("bit", "1010"), Text: "\x0a"},
		{Type: "bit(9)", Value: page.Bytes([]byte{1, 2}), Text: "\x01\x02"},
		{Type: "year", Value: page.String("2024"), Text: "2024"},
		{Type: "enum('a','b')", Value: page.String("b"), Text: "b"},
		{Type: "inet6", Value: page.Foreign("inet", "::1"), Text: "::1"},
	}
}

func refused() []connectortest.Cast {
	return []connectortest.Cast{
		{Type: "tinyint", Value: page.Int(128)},
		{Type: "int", Value: page.Int(math.MaxInt32 + 1)},
		{Type: "int unsigned", Value: page.Int(-1)},
		{Type: "bigint", Value: page.Uint(math.MaxUint64)},
		{Type: "bigint unsigned", Value: page.Int(-1)},
		{Type: "bigint unsigned", Value: decimal("18446744073709551616")},
		{Type: "bigint unsigned", Value: decimal("1E+200000")},
		{Type: "bigint", Value: decimal("1.5")},
		{Type: "bigint", Value: page.Float(math.NaN())},
		{Type: "int", Value: page.String("12x")},
		{Type: "int", Value: page.Bytes([]byte{1})},
		{Type: "year", Value: page.Int(24)},
		{Type: "bit(4)", Value: page.Uint(16)},
		{Type: "bit(4)", Value: page.Foreign("bit", "10101")},
		{Type: "decimal(5,2)", Value: decimal("1.555")},
		{Type: "decimal(5,2)", Value: decimal("1000")},
		{Type: "decimal(5,2)", Value: decimal("1E+140000")},
		{Type: "decimal(65,30)", Value: decimal("1E-20000")},
		{Type: "decimal(5,2) unsigned", Value: decimal("-1")},
		{Type: "decimal(5,2)", Value: page.DecimalSpecial(page.NaN)},
		{Type: "double", Value: page.Int(1<<53 + 1)},
		{Type: "double", Value: page.Float(math.Inf(1))},
		{Type: "float", Value: page.Float(1e39)},
		{Type: "text", Value: page.String("a\xffb")},
		{Type: "varchar(3)", Value: page.String("abcd")},
		{Type: "varchar(3)", Value: page.String("ab  ")},
		{Type: "varchar(3) CHARACTER SET latin1", Value: page.String("😀")},
		{Type: "enum('a','b')", Value: page.String("c")},
		{Type: "set('a','b')", Value: page.String("a,c")},
		{Type: "varbinary(5)", Value: page.String("plain")},
		{Type: "binary(2)", Value: page.Bytes([]byte{1, 2, 3})},
		{Type: "date", Value: page.String("2023-02-29")},
		{Type: "date", Value: page.Foreign("date", "infinity")},
		{Type: "date", Value: page.Foreign("date", "2024-02-31")},
		{Type: "datetime", Value: page.LocalTimestamp(1)},
		{Type: "datetime(3)", Value: page.LocalTimestamp(1)},
		{Type: "timestamp NULL", Value: page.LocalTimestamp(0)},
		{Type: "timestamp NULL", Value: page.String("2024-01-01 00:00:00")},
		{Type: "timestamp NULL", Value: page.Timestamp(-1_000_000, 0)},
		{Type: "time", Value: page.Interval(1, 0, 0)},
		{Type: "time", Value: page.Interval(0, 0, 839*hour)},
		{Type: "json", Value: page.String("{")},
		{Type: "uuid", Value: page.String("not a uuid")},
		{Type: "inet6", Value: page.String("not an address")},
		{Type: "geometry", Value: page.String("POINT(1 2)")},
		{Type: "geometry", Value: page.Foreign("geometry", "0163000000")},
		{Type: "int CHECK (v < 5)", Value: page.Int(5)},
	}
}
