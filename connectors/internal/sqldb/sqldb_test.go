package sqldb

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/connectors"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestParseTable(t *testing.T) {
	for text, want := range map[string]Table{
		"orders":           {"public", "orders"},
		"Sales.Orders":     {"Sales", "Orders"},
		`"a.b"."c""d"`:     {"a.b", `c"d`},
		`s."; DROP TABLE"`: {"s", "; DROP TABLE"},
		"größe":            {"public", "größe"},
	} {
		if got, err := ParseTable(text, "public"); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `"a"b`, `""`, "a\x00b", strings.Repeat("x", 300)} {
		if got, err := ParseTable(text, "public"); fault.CodeOf(err) != "E_QUERY" {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if got := (Table{`s"`, "t"}).String(); got != `"s"""."t"` {
		t.Errorf("got %s", got)
	}
}

func TestSelect(t *testing.T) {
	table := Select{Query: connectors.Query{Table: "t", Key: []string{"a", "b"}}, Table: Table{"s", "t"},
		Placeholder: "$", Conditions: "q.x = $1", Bound: 1, Columns: `"a", "c", "b"`}
	free := Select{Query: connectors.Query{SQL: "SELECT 1 AS a -- x ; \n;", Key: []string{"a"}}, Placeholder: "?"}
	mark := Select{Query: connectors.Query{Table: "t", Key: []string{"a", "b`", "c"}}, Table: Table{"s", "t"},
		Quote: Backtick, Mark: func(n int) string { return string(rune('0' + n)) }, ByColumn: true}
	for _, test := range [][2]string{
		{mark.Keyset(true, 9), "SELECT q.* FROM `s`.`t` AS q WHERE q.`a` >= 1 AND (q.`a` > 1 OR (q.`a` = 1 AND q.`b``` >= 2 AND " +
			"(q.`b``` > 2 OR (q.`b``` = 2 AND q.`c` > 3)))) ORDER BY q.`a`, q.`b```, q.`c` LIMIT 9"},
		{mark.At(), "SELECT 1 FROM `s`.`t` AS q WHERE q.`a` = 1 AND q.`b``` = 2 AND q.`c` = 3 LIMIT 2"},
		{mark.NullKeys(), "SELECT 1 FROM `s`.`t` AS q WHERE (q.`a` IS NULL OR q.`b``` IS NULL OR q.`c` IS NULL) LIMIT 1"},
		{table.All(), `SELECT "a", "c", "b" FROM "s"."t" AS q WHERE q.x = $1`},
		{table.Keyset(false, 9), `SELECT "a", "c", "b" FROM "s"."t" AS q WHERE q.x = $1 ORDER BY q."a", q."b" LIMIT 9`},
		{table.Keyset(true, 9), `SELECT "a", "c", "b" FROM "s"."t" AS q WHERE q.x = $1 AND (q."a", q."b") > ($2, $3) ORDER BY q."a", q."b" LIMIT 9`},
		{table.NullKeys(), `SELECT 1 FROM "s"."t" AS q WHERE q.x = $1 AND (q."a" IS NULL OR q."b" IS NULL) LIMIT 1`},
		{free.All(), "SELECT 1 AS a -- x"},
		{free.Keyset(true, 9), "SELECT q.* FROM (SELECT 1 AS a -- x\n) AS q WHERE q.\"a\" > ?1 ORDER BY q.\"a\" LIMIT 9"},
	} {
		if test[0] != test[1] {
			t.Errorf("got  %s\nwant %s", test[0], test[1])
		}
	}
}

func TestCursor(t *testing.T) {
	c := Cursor{RecordBytes: 200, Values: []CursorValue{{20, 1, []byte{0, 1}}, {25, 0, nil}}}
	key := []string{"a", "b"}
	b := c.Append(nil, key)
	got, err := ParseCursor(b, key)
	if err != nil || got.RecordBytes != 200 || !bytes.Equal(got.Append(nil, key), b) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for _, other := range [][]string{{"a"}, {"b", "a"}, {"a", "b", "c"}} {
		if _, err := ParseCursor(b, other); fault.CodeOf(err) != "E_QUERY" {
			t.Errorf("key %v: %v", other, err)
		}
	}
	for i := range b {
		if _, err := ParseCursor(b[:i], key); err == nil {
			t.Errorf("cut at %d it is read", i)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(Cursor{Values: []CursorValue{{1, 1, []byte("x")}}}.Append(nil, []string{"a"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCursor(b, []string{"a"})
		if err == nil && !bytes.Equal(c.Append(nil, []string{"a"}), b) {
			t.Errorf("%x is read as %+v", b, c)
		}
	})
}

func TestBisection(t *testing.T) {
	bad := map[int]bool{0: true, 777: true, 778: true, 4999: true}
	refused := fault.Of("E_VALUE")
	attempts, applied := 0, 0
	var failed []int
	err := Bisection{
		Attempt: func(lo, hi int) error {
			attempts++
			for i := lo; i < hi; i++ {
				if bad[i] {
					return refused
				}
			}
			applied += hi - lo
			return nil
		},
		Failed: func(row int, _ *fault.Error) error {
			failed = append(failed, row)
			return nil
		},
	}.Run(5000)
	if err != nil || !slices.Equal(failed, []int{0, 777, 778, 4999}) || applied != 4996 || attempts > 100 {
		t.Errorf("%v: failed %v, applied %d, %d attempts", err, failed, applied, attempts)
	}
	broken := errors.New("broken")
	if err := (Bisection{Attempt: func(int, int) error { return broken }}).Run(10); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := (Bisection{Attempt: func(int, int) error { return ErrSplit }}).Run(10); !errors.Is(err, ErrSplit) {
		t.Errorf("rows that can never be apart: %v", err)
	}
	if err := (Bisection{}).Run(0); err != nil {
		t.Error(err)
	}
}

func TestOneStatement(t *testing.T) {
	for text, one := range map[string]bool{
		"SELECT 1":                          true,
		"SELECT ';' ;; ":                    true,
		`SELECT "a;b", [c;d], ` + "`e;f`":   true,
		"SELECT 'it''s;' -- ; \n /* ; */ x": true,
		"SELECT 2 - 1 / 1":                  true,
		"SELECT 1; SELECT 2":                false,
		"SELECT ''; DELETE FROM t":          false,
		"SELECT 1 -- x\n; DELETE FROM t":    false,
	} {
		if err := OneStatement(text); (err == nil) != one {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(0)
	if got := b.Rows(80_000, 16<<20); got != firstRows+1 {
		t.Errorf("unknown size: %d rows", got)
	}
	for range 200 {
		b.Add(1000)
	}
	if got := b.Rows(80_000, 1_000_000); got != 1000+50+100+1 {
		t.Errorf("known size: %d rows", got)
	}
	if got := b.Rows(10, 1_000_000); got != 11 {
		t.Errorf("few records: %d rows", got)
	}
}

func TestAppendText(t *testing.T) {
	big, err := page.DecimalFromString("-123456789012345678901234567890.000001")
	if err != nil {
		t.Fatal(err)
	}
	shape := page.NewShape("a", "b\"\n")
	for want, v := range map[string]page.Value{
		"-123456789012345678901234567890.000001": big,
		"0.00150":                                page.Decimal(false, 150, -5),
		"15000":                                  page.Decimal(false, 15, 3),
		"-Infinity":                              page.DecimalSpecial(page.NegInfinity),
		"1e+100":                                 page.Float(1e100),
		"24:00:00":                               page.Time(86_400_000_000),
		"00:00:00.000001":                        page.Time(1),
		"0001-01-01":                             page.Date(-719162),
		"1969-12-31T23:59:59.9":                  page.LocalTimestamp(-100_000),
		"1970-01-01T05:30:00+05:30":              page.Timestamp(0, 19800),
		"PT0S":                                   page.Interval(0, 0, 0),
		"P-1MT-1H-0.5S":                          page.Interval(-1, 0, -3_600_500_000),
		`\x00ff`:                                 page.Bytes([]byte{0, 255}),
		`{"a":[1,"x",null],"b\"\u000a":1.50}`: page.Object(shape, []page.Value{
			page.Array([]page.Value{page.Int(1), page.String("x"), page.Null()}), page.Decimal(false, 150, -2)}),
	} {
		if got, ok := AppendText(nil, &v); !ok || string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestParseTimes(t *testing.T) {
	for text, want := range map[string]int64{
		"1970-01-01T00:00:00Z": 0, "1970-01-01 01:00+01": 0, "1970-01-01T00:00:00.5": 500_000,
		"1970-01-02": 86_400_000_000, "1969-12-31 23:59:59.999999+00:00": -1, "0001-01-01": -62_135_596_800_000_000,
	} {
		if got, _, ok := ParseTimestamp(text); !ok || got != want {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "now", "0000-01-01", "2023-02-29", "2024-01-01T25:00", "2024-01-01T00:00:00.1234567",
		"0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "01/02/2024"} {
		if got, _, ok := ParseTimestamp(text); ok {
			t.Errorf("%s is read as %d", text, got)
		}
	}
}

func TestAnswerRoundTrip(t *testing.T) {
	a := connectors.Answer{Applied: 2, Inbox: true, Failed: []connectors.Failure{{Index: 1, Fault: fault.Of("E_VALUE").WithField("v")}}}
	text, err := EncodeAnswer(a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeAnswer(text)
	a.Already = true
	if err != nil || got.Failed[0].Fault.Field != "v" || !cmp.Equal(got.Applied, a.Applied) || !got.Already {
		t.Errorf("got %+v, %v", got, err)
	}
}
