package postgres_test

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

// columns are all types with cells of their own at their extremes, and others.
func columns() []column {
	long := strings.Repeat("0123456789", 13107) // 131,070 digits
	return []column{
		{Type: "boolean", Samples: []sample{{"true", page.Bool(true)}, {"false", page.Bool(false)}}},
		{Type: "smallint", Samples: []sample{{"-32768", page.Int(-32768)}, {"32767", page.Int(32767)}}},
		{Type: "integer", Samples: []sample{{"-2147483648", page.Int(math.MinInt32)},
			{"2147483647", page.Int(math.MaxInt32)}, {"0", page.Int(0)}}},
		{Type: "bigint", Samples: []sample{{"-9223372036854775808", page.Int(math.MinInt64)},
			{"9223372036854775807", page.Int(math.MaxInt64)}}},
		{Type: "real", Samples: []sample{{"'3.4028235e38'", page.Float32(math.MaxFloat32)},
			{"'1e-45'", page.Float32(math.SmallestNonzeroFloat32)}, {"'-0'", page.Float32(float32(math.Copysign(0, -1)))},
			{"'NaN'", page.Float32(float32(math.NaN()))}, {"'-Infinity'", page.Float32(float32(math.Inf(-1)))},
			{"0.1", page.Float32(0.1)}}},
		{Type: "double precision", Samples: []sample{{"'1.7976931348623157e308'", page.Float(math.MaxFloat64)},
			{"'5e-324'", page.Float(math.SmallestNonzeroFloat64)}, {"'-0'", page.Float(math.Copysign(0, -1))},
			{"'NaN'", page.Float(math.NaN())}, {"'Infinity'", page.Float(math.Inf(1))}, {"0.1", page.Float(0.1)}}},
		{Type: "numeric", Samples: []sample{{"0", decimal("0")}, {"0.000", decimal("0.000")},
			{"1.50", decimal("1.50")}, {"-1.5", decimal("-1.5")}, {"10000", decimal("10000")},
			{"0.0001", decimal("0.0001")}, {"0.00012345", decimal("0.00012345")}, {"1e30", decimal("1" + strings.Repeat("0", 30))},
			{"9999999999999999", decimal("9999999999999999")}, {"99999999999999999999.99", decimal("99999999999999999999.99")},
			{"18446744073709551615", decimal("18446744073709551615")}, {"18446744073709551616", decimal("18446744073709551616")},
			{"-12345678901234567890123456789012345678.0123456789", decimal("-12345678901234567890123456789012345678.0123456789")},
			{"'NaN'", page.DecimalSpecial(page.NaN)}, {"'Infinity'", page.DecimalSpecial(page.Infinity)},
			{"'-Infinity'", page.DecimalSpecial(page.NegInfinity)},
			{"1" + long, decimal("1" + long)}, {"0." + long[:16380] + "1", decimal("0." + long[:16380] + "1")}}},
		{Type: "numeric(12,2)", Samples: []sample{{"9999999999.99", decimal("9999999999.99")}, {"-0.01", decimal("-0.01")},
			{"3", decimal("3.00")}}},
		{Type: "text", Samples: []sample{{"''", page.String("")}, {"'Größe 😀 ''quoted'' \"x\" \\ \t'", page.String("Größe 😀 'quoted' \"x\" \\ \t")},
			{"repeat('x', 1000000)", page.String(strings.Repeat("x", 1000000))}, {"E'a\\nb\\rc\\x01'", page.String("a\nb\rc\x01")}}},
		{Type: "varchar(10)", Samples: []sample{{"'äöü'", page.String("äöü")}, {"'  x  '", page.String("  x  ")}}},
		{Type: "char(5)", Samples: []sample{{"'ab'", page.String("ab   ")}}},
		{Type: "name", Samples: []sample{{"'pg_class'", page.String("pg_class")}}},
		{Type: "bytea", Samples: []sample{{`'\x'`, page.Bytes([]byte{})}, {`'\x00ff0a5c'`, page.Bytes([]byte{0, 255, 10, '\\'})}}},
		{Type: "date", Samples: []sample{{"'0001-01-01'", day("0001-01-01")}, {"'9999-12-31'", day("9999-12-31")},
			{"'1970-01-01'", day("1970-01-01")}, {"'2024-02-29'", day("2024-02-29")},
			{"'infinity'", page.Foreign("date", "infinity")}, {"'-infinity'", page.Foreign("date", "-infinity")},
			{"'0044-03-15 BC'", page.Foreign("date", "0044-03-15 BC")}, {"'5874897-12-31'", page.Foreign("date", "5874897-12-31")},
			{"'4713-11-24 BC'", page.Foreign("date", "4713-11-24 BC")}, {"'10000-01-01'", page.Foreign("date", "10000-01-01")}}},
		{Type: "time", Samples: []sample{{"'00:00:00'", page.Time(0)}, {"'23:59:59.999999'", page.Time(86_399_999_999)},
			{"'24:00:00'", page.Time(86_400_000_000)}}},
		{Type: "timetz", Samples: []sample{{"'12:34:56.789+05:30'", page.Foreign("time with time zone", "12:34:56.789+05:30")}}},
		{Type: "timestamp", Samples: []sample{{"'0001-01-01 00:00:00'", local("0001-01-01T00:00:00")},
			{"'9999-12-31 23:59:59.999999'", local("9999-12-31T23:59:59.999999")}, {"'1969-12-31 23:59:59.999999'", page.LocalTimestamp(-1)},
			{"'infinity'", page.Foreign("timestamp without time zone", "infinity")},
			{"'0001-12-31 23:59:59.5 BC'", page.Foreign("timestamp without time zone", "0001-12-31 23:59:59.5 BC")},
			{"'294276-12-31 23:59:59.999999'", page.Foreign("timestamp without time zone", "294276-12-31 23:59:59.999999")}}},
		{Type: "timestamptz", Samples: []sample{{"'0001-01-01 00:00:00+00'", zoned("0001-01-01T00:00:00")},
			{"'9999-12-31 23:59:59.999999+00'", zoned("9999-12-31T23:59:59.999999")},
			{"'2024-03-31 02:30:00+02'", zoned("2024-03-31T00:30:00")},
			{"'-infinity'", page.Foreign("timestamp with time zone", "-infinity")},
			{"'10000-01-01 00:00:00+00'", page.Foreign("timestamp with time zone", "10000-01-01 00:00:00+00")},
			{"'4713-11-24 00:00:00+00 BC'", page.Foreign("timestamp with time zone", "4713-11-24 00:00:00+00 BC")}}},
		{Type: "interval", Samples: []sample{{"'0'", page.Interval(0, 0, 0)},
			{"'1 year 2 mons -3 days 04:05:06.789'", page.Interval(14, -3, 14_706_789_000)},
			{"'-178000000 years 2147483647 days -2562047788:00:54.775807'",
				page.Interval(-2_136_000_000, math.MaxInt32, -math.MaxInt64)}}},
		{Type: "uuid", Samples: []sample{{"'00000000-0000-0000-0000-000000000000'", page.UUID([16]byte{})},
			{"'ffeeddcc-bbaa-9988-7766-554433221100'", page.UUID([16]byte{0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0})}}},
		{Type: "json", Samples: []sample{{`'{"b": 1.10,  "a": [null], "a": 12345678901234567890.5}'`,
			page.JSON([]byte(`{"b": 1.10,  "a": [null], "a": 12345678901234567890.5}`))}, {"'null'", page.JSON([]byte("null"))}}},
		{Type: "jsonb", Samples: []sample{{`'{"b":1.10,"a":"ü"}'`, page.JSON([]byte(`{"a": "ü", "b": 1.10}`))}}},
		{Type: "integer[]", Samples: []sample{{"'{}'", page.Array(nil)}, {"'{1,NULL,-2147483648}'",
			page.Array([]page.Value{page.Int(1), page.Null(), page.Int(math.MinInt32)})},
			{"'{{1,2},{3,4}}'", page.Array([]page.Value{page.Array([]page.Value{page.Int(1), page.Int(2)}),
				page.Array([]page.Value{page.Int(3), page.Int(4)})})},
			{"'[0:1]={1,2}'", page.Foreign("integer[]", `[0:1]={"1","2"}`)}}},
		{Type: "text[]", Samples: []sample{{`'{"a,b","NULL",NULL,"\"q\\"}'`, page.Array([]page.Value{page.String("a,b"),
			page.String("NULL"), page.Null(), page.String(`"q\`)})}}},
		{Type: "numeric(6,2)[]", Samples: []sample{{"'{1.5,NaN}'", page.Array([]page.Value{decimal("1.50"), page.DecimalSpecial(page.NaN)})}}},
		{Type: "timestamptz[]", Samples: []sample{{"'{2024-01-01 00:00:00+00,infinity}'", page.Array([]page.Value{zoned("2024-01-01T00:00:00"),
			page.Foreign("timestamp with time zone", "infinity")})}}},
		{Type: "uuid[]", Samples: []sample{{"'{00000000-0000-0000-0000-000000000000}'", page.Array([]page.Value{page.UUID([16]byte{})})}}},
		{Type: "jsonb[]", Samples: []sample{{`array['{"a":1}'::jsonb]`, page.Array([]page.Value{page.JSON([]byte(`{"a": 1}`))})}}},
		{Type: "bytea[]", Samples: []sample{{`array['\x00ff'::bytea]`, page.Array([]page.Value{page.Bytes([]byte{0, 255})})}}},
		{Type: "interval[]", Samples: []sample{{`'{1 mon}'`, page.Array([]page.Value{page.Interval(1, 0, 0)})}}},
		{Type: "inet", Samples: []sample{{"'192.168.0.1/24'", page.Foreign("inet", "192.168.0.1/24")}}},
		{Type: "int4range", Samples: []sample{{"'[1,10)'", page.Foreign("int4range", "[1,10)")}}},
		{Type: "point", Samples: []sample{{"'(1.5,-2)'", page.Foreign("point", "(1.5,-2)")}}},
		{Type: "money", Samples: []sample{{"12.5", page.Foreign("money", "$12.50")}}},
		{Type: "xml", Samples: []sample{{"'<a>ü</a>'", page.Foreign("xml", "<a>ü</a>")}}},
		{Type: "bit(3)", Samples: []sample{{"B'101'", page.Foreign("bit", "101")}}},
		{Type: "inet[]", Samples: []sample{{"'{::1}'", page.Foreign("inet[]", "{::1}")}}},
	}
}

func casts() []connectortest.Cast {
	return []connectortest.Cast{
		{Type: "smallint", Value: page.Uint(7), Text: "7"},
		{Type: "integer", Value: decimal("12.00"), Text: "12"},
		{Type: "bigint", Value: page.String("-9223372036854775808"), Text: "-9223372036854775808"},
		{Type: "bigint", Value: page.Float(1e15), Text: "1000000000000000"},
		{Type: "integer", Value: page.Bool(true), Text: "1"},
		{Type: "numeric", Value: page.Uint(math.MaxUint64), Text: "18446744073709551615"},
		{Type: "numeric", Value: page.Int(math.MinInt64), Text: "-9223372036854775808"},
		{Type: "numeric", Value: page.Float(0.1), Text: "0.1"},
		{Type: "numeric(5,2)", Value: page.String("1.5"), Text: "1.50"},
		{Type: "numeric(5,2)", Value: decimal("1.5000"), Text: "1.50"},
		{Type: "numeric(5,0)", Value: decimal("1E+2"), Text: "100"},
		{Type: "numeric", Value: decimal("0E-5"), Text: "0.00000"},
		{Type: "double precision", Value: decimal("0.1"), Text: "0.1"},
		{Type: "double precision", Value: page.Int(1 << 53), Text: "9.007199254740992e+15"},
		{Type: "real", Value: page.Float(0.1), Text: "0.1"},
		{Type: "boolean", Value: page.Int(1), Text: "t"},
		{Type: "boolean", Value: page.String("FALSE"), Text: "f"},
		{Type: "text", Value: page.Int(-5), Text: "-5"},
		{Type: "text", Value: decimal("1E+5"), Text: "100000"},
		{Type: "text", Value: page.Bool(true), Text: "true"},
		{Type: "text", Value: page.Timestamp(0, 3600), Text: "1970-01-01T01:00:00+01:00"},
		{Type: "text", Value: page.JSON([]byte(`{"a" :1}`)), Text: `{"a" :1}`},
		{Type: "text", Value: page.Interval(14, -3, 14_706_789_000), Text: "P14M-3DT4H5M6.789S"},
		{Type: "interval", Value: page.String("P14M-3DT4H5M6.789S"), Text: "1 year 2 mons -3 days +04:05:06.789"},
		{Type: "bytea", Value: page.String(`\x00ff`), Text: `\x00ff`},
		{Type: "date", Value: page.String("2024-02-29"), Text: "2024-02-29"},
		{Type: "time", Value: page.String("12:30"), Text: "12:30:00"},
		{Type: "timestamp", Value: page.String("2024-02-29T12:30:00.5"), Text: "2024-02-29 12:30:00.5"},
		{Type: "timestamp", Value: day("2024-02-29"), Text: "2024-02-29 00:00:00"},
		{Type: "timestamptz", Value: page.String("2024-02-29T12:30:00+02:00"), Text: "2024-02-29 10:30:00+00"},
		{Type: "timestamptz", Value: page.Timestamp(0, -7200), Text: "1970-01-01 00:00:00+00"},
		{Type: "uuid", Value: page.String("FFEEDDCC-bbaa-9988-7766-554433221100"), Text: "ffeeddcc-bbaa-9988-7766-554433221100"},
		{Type: "jsonb", Value: page.Object(page.NewShape("n", "t"), []page.Value{decimal("1.10"), page.String("ü\n\"")}),
			Text: `{"n": 1.10, "t": "ü\n\""}`},
		{Type: "json", Value: page.String(`{"a" : 1}`), Text: `{"a" : 1}`},
		{Type: "jsonb", Value: page.Array([]page.Value{page.Int(1), page.Null(), day("2024-02-29")}), Text: `[1, null, "2024-02-29"]`},
		{Type: "integer[]", Value: page.String("{1,2}"), Text: "{1,2}"},
		{Type: "text[]", Value: page.Array([]page.Value{page.Int(1), page.Bool(true)}), Text: "{1,true}"},
		{Type: "inet", Value: page.String("::1"), Text: "::1"},
	}
}

func refused() []connectortest.Cast {
	return []connectortest.Cast{
		{Type: "smallint", Value: page.Int(32768)},
		{Type: "integer", Value: page.Int(math.MaxInt32 + 1)},
		{Type: "bigint", Value: page.Uint(math.MaxUint64)},
		{Type: "bigint", Value: decimal("1.5")},
		{Type: "bigint", Value: decimal("1E+19")},
		{Type: "bigint", Value: decimal("1E-200000")},
		{Type: "bigint", Value: page.Float(math.NaN())},
		{Type: "integer", Value: page.String("12x")},
		{Type: "integer", Value: page.Bytes([]byte{1})},
		{Type: "numeric(5,2)", Value: decimal("1.555")},
		{Type: "numeric(5,2)", Value: decimal("1000")},
		{Type: "numeric", Value: decimal("1E-20000")},
		{Type: "numeric", Value: decimal("1E+140000")},
		{Type: "numeric", Value: page.String("0x10")},
		{Type: "double precision", Value: page.Int(1<<53 + 1)},
		{Type: "double precision", Value: decimal("1E+400")},
		{Type: "real", Value: page.Float(1e39)},
		{Type: "boolean", Value: page.Int(2)},
		{Type: "text", Value: page.String("a\x00b")},
		{Type: "text", Value: page.String("a\xffb")},
		{Type: "varchar(3)", Value: page.String("abcd")},
		{Type: "bytea", Value: page.String("plain")},
		{Type: "date", Value: page.String("2023-02-29")},
		{Type: "date", Value: page.String("now")},
		{Type: "timestamp", Value: page.String("yesterday")},
		{Type: "timestamptz", Value: page.LocalTimestamp(0)},
		{Type: "timestamptz", Value: page.String("2024-01-01 00:00:00")},
		{Type: "uuid", Value: page.String("not a uuid")},
		{Type: "json", Value: page.String("{")},
		{Type: "jsonb", Value: page.JSON([]byte("{"))},
		{Type: "jsonb", Value: page.JSON([]byte(`"\u0000"`))},
		{Type: "integer[]", Value: page.Array([]page.Value{page.Array([]page.Value{page.Int(1)}), page.Int(2)})},
		{Type: "integer[]", Value: page.Array([]page.Value{page.String("x")})},
		{Type: "inet", Value: page.String("not an address")},
	}
}
