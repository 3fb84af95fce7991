package odata_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

var byID = connectors.Query{Table: "Orders", Key: []string{"id"}, Columns: []string{"id"}}

func sequence(from, to int) (list []int64) {
	for i := from; i <= to; i++ {
		list = append(list, int64(i))
	}
	return list
}

// TestReadPages: the server gives 50 records at a time; keyed reads go on by
// their key, streamed ones by the server's links, and both see every record.
func TestReadPages(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		s.fill(1, 170)
		c := s.open(version)
		if got := ids(t, mustRead(t, c, byID), "id"); !slices.Equal(got, sequence(1, 170)) {
			t.Errorf("keyed: %v", got)
		}
		records, err := readAll(t, c, byID, request.Limits{Pages: 2, PageRecords: 7})
		if got := ids(t, records, "id"); err != nil || !slices.Equal(got, sequence(1, 170)) {
			t.Errorf("in small requests: %v %v", got, err)
		}
		stream := connectors.Query{Table: "Orders", Columns: []string{"id", "customer"}}
		if got := ids(t, mustRead(t, c, stream), "id"); !slices.Equal(got, sequence(1, 170)) {
			t.Errorf("streamed: %v", got)
		}
	})
}

// TestReadResumes: records that come and go on both sides of the cursor are
// neither skipped nor doubled.
func TestReadResumes(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		s.fill(10, 69)
		r := newRead(s.open(version), byID)
		r.Limits = request.Limits{Pages: 1, PageRecords: 20}
		first, end, err := readOnce(t, r)
		if err != nil || end.Exhausted || len(first) != 20 {
			t.Fatalf("%d records, %+v, %v", len(first), end, err)
		}
		for _, id := range []int{12, 29, 30} { // before, at and after the cursor
			s.call("DELETE", fmt.Sprintf("/Orders(%d)", id), "")
		}
		s.fill(1, 5)
		s.fill(70, 75)
		r = newRead(s.open(version), byID) // another process
		r.Cursor = end.Cursor
		rest, end, err := readOnce(t, r)
		if err != nil || !end.Exhausted {
			t.Fatalf("%+v, %v", end, err)
		}
		if got := ids(t, rest, "id"); !slices.Equal(got, sequence(31, 75)) {
			t.Errorf("got %v", got)
		}
	})
}

func condition(column, op, value string) connectors.Condition {
	c := connectors.Condition{Column: column, Op: op}
	if value != "" {
		c.Value = json.RawMessage(value)
	}
	return c
}

func TestReadFilters(t *testing.T) {
	const bad = `O'Brien' or 1 eq 1 & $top=1 #ü😀+%27`
	eachVersion(t, func(t *testing.T, s *site, version string) {
		quoted, _ := json.Marshal(bad)
		s.post("Orders", `{"id":1,"customer":`+string(quoted)+`,"status":"open","total":"10.5","quantity":"9007199254740993",
			"day":"2024-02-29","at":"2024-02-29T10:11:12.123Z","clock":"10:11:12","ref":"00112233-4455-6677-8899-aabbccddeeff",
			"paid":true,"weight":0.25,"digest":"AP8="}`)
		s.post("Orders", `{"id":2,"customer":"plain","total":"2.5","paid":false,"weight":1.5,"quantity":"5","day":"2025-01-01"}`)
		s.post("Orders", `{"id":3,"customer":"O'Neill"}`)
		c := s.open(version)
		for _, test := range []struct {
			c    connectors.Condition
			want []int64
		}{
			{condition("customer", "=", string(quoted)), []int64{1}},
			{condition("customer", "<>", string(quoted)), []int64{2, 3}},
			{condition("customer", "in", `["plain", "O'Neill", "' or 1 eq 1"]`), []int64{2, 3}},
			{condition("customer", "in", `[]`), nil},
			{condition("customer", "like", `"O'%"`), []int64{1, 3}},
			{condition("customer", "like", `"%Neill"`), []int64{3}},
			{condition("customer", "like", `"%'%"`), []int64{1, 3}},
			{condition("id", ">", `1`), []int64{2, 3}},
			{condition("total", ">=", `2.5`), []int64{1, 2}},
			{condition("total", "<", `"10.50"`), []int64{2}},
			{condition("quantity", "=", `9007199254740993`), []int64{1}},
			{condition("day", ">", `"2024-02-28"`), []int64{1, 2}},
			{condition("at", "<=", `"2024-02-29T10:11:12.123Z"`), []int64{1}},
			{condition("clock", "=", `"10:11:12"`), []int64{1}},
			{condition("ref", "=", `"00112233-4455-6677-8899-AABBCCDDEEFF"`), []int64{1}},
			{condition("paid", "=", `true`), []int64{1}},
			{condition("weight", ">", `1`), []int64{2}},
			{condition("status", "is null", ""), []int64{2, 3}},
			{condition("status", "is not null", ""), []int64{1}},
		} {
			q := byID
			q.Where.All = []connectors.Condition{test.c}
			records, err := readAll(t, c, q, request.Limits{})
			if got := ids(t, records, "id"); err != nil || !slices.Equal(got, test.want) && len(got)+len(test.want) > 0 {
				t.Errorf("%s %s %s: %v, want %v (%v)", test.c.Column, test.c.Op, test.c.Value, got, test.want, err)
			}
		}
		q := byID
		q.Where = connectors.Where{SQL: "id gt 1 and startswith(customer,'p')"}
		if got := ids(t, mustRead(t, c, q), "id"); !slices.Equal(got, []int64{2}) {
			t.Errorf("free text: %v", got)
		}
	})
}

// TestValuesAreExact: what is written is read back with kind and value, and
// both versions say the same.
func TestValuesAreExact(t *testing.T) {
	const micros = 1709201472123000 // 2024-02-29T10:11:12.123Z
	eachVersion(t, func(t *testing.T, s *site, version string) {
		c := s.open(version)
		uuid := page.UUID([16]byte{0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff})
		full := rec("id", 1, "customer", "Größe \"q\" \\ 'x' 😀\t", "note", "", "status", "open",
			"total", dec("12345678901.1234"), "quantity", page.Int(9007199254740993), "day", page.Date(19782),
			"at", page.Timestamp(micros, 0), "seen", page.Timestamp(1709201472000000, 0), "clock", page.Time(36672000000),
			"ref", uuid, "paid", page.Bool(false), "weight", page.Float(5e-324), "digest", page.Bytes([]byte{0, 255, 254}))
		empty := rec("id", 2, "customer", "n", "note", nil, "status", nil, "total", nil, "quantity", nil, "day", nil,
			"at", nil, "seen", nil, "clock", nil, "ref", nil, "paid", nil, "weight", nil, "digest", nil)
		low := rec("id", -2147483648, "customer", "low", "total", dec("-0.0001"), "quantity", page.Int(-9007199254740993),
			"day", page.Date(-141427), "at", page.Timestamp(-1000, 0), "weight", page.Float(-1.7976931348623157e308))
		if a := mustLoad(t, c, insert, full, empty, low); len(a.Failed) > 0 {
			t.Fatal(a.Failed[0].Fault)
		}
		got := mustRead(t, c, connectors.Query{Table: "Orders", Key: []string{"id"}})
		if len(got) != 3 {
			t.Fatalf("%d records", len(got))
		}
		for i, want := range []page.Record{low, full, empty} {
			for j, field := range want.Shape.Names {
				v, present := got[i].Field(field)
				if !present || !page.Equal(v, want.Values[j]) {
					t.Errorf("%s: got %s %v, want %s %v", field, v.Kind(), v, want.Values[j].Kind(), want.Values[j])
				}
			}
		}
		// What comes from other systems in other kinds.
		if a := mustLoad(t, c, upsert("upsert"), rec("id", page.String("7"), "customer", page.Int(42),
			"total", page.String("1.2345"), "quantity", dec("100"), "day", page.String("2024-02-29"),
			"at", page.Timestamp(micros, 7200), "seen", page.LocalTimestamp(1709201472000000), "clock", page.String("10:11"),
			"ref", page.String("00112233-4455-6677-8899-aabbccddeeff"), "paid", page.Int(1), "weight", dec("0.5"))); len(a.Failed) > 0 {
			t.Fatal(a.Failed[0].Fault)
		}
		q := connectors.Query{Table: "Orders", Key: []string{"id"}, Where: connectors.Where{All: []connectors.Condition{condition("id", "=", "7")}}}
		seven := mustRead(t, c, q)[0]
		for field, want := range map[string]page.Value{"customer": page.String("42"), "total": dec("1.2345"), "quantity": page.Int(100),
			"day": page.Date(19782), "at": page.Timestamp(micros, 0), "clock": page.Time(36660000000), "ref": uuid, "paid": page.Bool(true)} {
			if v, _ := seven.Field(field); !page.Equal(v, want) {
				t.Errorf("%s: got %s %v, want %v", field, v.Kind(), v, want)
			}
		}
		a := mustLoad(t, c, insert, rec("id", 1<<31, "customer", "c"), rec("id", 11, "customer", "c", "total", dec("0.00001")),
			rec("id", 12, "customer", "c", "total", dec("123456789012")), rec("id", 13, "customer", "c", "quantity", dec("1.5")),
			rec("id", 14, "customer", "c", "day", page.LocalTimestamp(1)), rec("id", 15, "customer", "c", "ref", "x"),
			rec("id", 16, "customer", "c", "digest", page.Bytes(make([]byte, 101))), rec("id", 17, "customer", "c", "total", page.DecimalSpecial(page.NaN)),
			rec("id", 18, "customer", "c", "clock", page.Time(86_400_000_000)), rec("id", 19, "customer", "c", "paid", "yes"))
		if a.Applied != 0 || len(a.Failed) != 10 {
			t.Fatalf("applied %d, failed %v", a.Applied, codes(a))
		}
		for _, f := range a.Failed {
			if f.Fault.Code != "E_VALUE" || f.Fault.Field == "" {
				t.Errorf("record %d: %+v", f.Index, f.Fault)
			}
		}
	})
}

// TestKeysOfTexts: quotes and addresses in keys, and a language whose order
// differs from the comparison, by which a read would lose records.
func TestKeysOfTexts(t *testing.T) {
	spec := connectors.ImportSpec{Table: "Names", Mode: "upsert", Key: []string{"name", "part"}}
	q := connectors.Query{Table: "Names", Key: []string{"name", "part"}}
	eachVersion(t, func(t *testing.T, s *site, version string) {
		names := []string{"B", "D", "a", "c", "it's / & ? # + ü", "É"} // CAP 9 ends when it names a key beyond Latin-1 in Location
		if version == "v4" {                                           // CAP's adapter of version 2 decodes keys in a batch twice
			names = append(names, "100 %41")
		}
		var records []page.Record
		for i, n := range names {
			records = append(records, rec("name", n, "part", i, "text", "t"+n), rec("name", n, "part", i+1, "text", "t"))
		}
		c := s.open(version)
		for range 2 {
			if a := mustLoad(t, c, spec, records...); len(a.Failed) > 0 {
				t.Fatal(a.Failed[0].Fault)
			}
		}
		got, err := readAll(t, c, q, request.Limits{Pages: 1, PageRecords: 3})
		if err != nil {
			t.Fatal(err)
		}
		var seen []string
		for _, r := range got {
			seen = append(seen, r.Values[0].Text())
		}
		slices.Sort(seen)
		if diff := cmp.Diff(slices.Sorted(slices.Values(append(slices.Clone(names), names...))), seen); diff != "" {
			t.Error(diff)
		}
		german := s.open(version, func(m map[string]any) { m["language"] = "DE" })
		_, err = readAll(t, german, q, request.Limits{Pages: 1, PageRecords: 3})
		if fault.CodeOf(err) != "E_QUERY" || !strings.Contains(err.Error(), "order") {
			t.Errorf("sorted by a language: %v", err)
		}
		a := mustLoad(t, c, connectors.ImportSpec{Table: "Names", Mode: "delete", Key: []string{"name", "part"}}, records...)
		if _, body := s.call("GET", "/Names/$count", ""); len(a.Failed) > 0 || body != "0" {
			t.Errorf("delete: %v, %s left", a.Failed, body)
		}
	})
}

func TestBadQueries(t *testing.T) {
	eachVersion(t, func(t *testing.T, s *site, version string) {
		s.fill(1, 3)
		c := s.open(version)
		key := []string{"id"}
		for _, test := range []struct {
			name, code string
			q          connectors.Query
		}{
			{"nothing", "E_QUERY", connectors.Query{}},
			{"free query", "E_QUERY", connectors.Query{SQL: "Orders?$top=1"}},
			{"missing set", "E_TABLE_MISSING", connectors.Query{Table: "Nosuch", Key: key}},
			{"hostile set", "E_TABLE_MISSING", connectors.Query{Table: "Orders?$filter=1 eq 1&x=", Key: key}},
			{"path", "E_TABLE_MISSING", connectors.Query{Table: "../../v4/plant/Orders", Key: key}},
			{"missing column", "E_COLUMN_MISSING", connectors.Query{Table: "Orders", Columns: []string{"nosuch"}}},
			{"hostile column", "E_COLUMN_MISSING", connectors.Query{Table: "Orders", Columns: []string{"id&$top=1"}}},
			{"missing key", "E_COLUMN_MISSING", connectors.Query{Table: "Orders", Key: []string{"nosuch"}}},
			{"key of records", "E_COLUMN_MISSING", connectors.Query{Table: "Orders", Key: []string{"items"}}},
			{"missing in where", "E_COLUMN_MISSING", connectors.Query{Table: "Orders", Key: key, Where: connectors.Where{
				All: []connectors.Condition{condition("1 eq 1 or id", "=", "1")}}}},
			{"value of another type", "E_QUERY", connectors.Query{Table: "Orders", Key: key, Where: connectors.Where{
				All: []connectors.Condition{condition("id", "=", `"1 or 1 eq 1"`)}}}},
			{"free text that escapes", "E_QUERY", connectors.Query{Table: "Orders", Key: key, Where: connectors.Where{SQL: "id eq 1) or (1 eq 1"}}},
			{"free text that is wrong", "E_QUERY", connectors.Query{Table: "Orders", Key: key, Where: connectors.Where{SQL: "id equals 1"}}},
			{"too long", "E_QUERY", connectors.Query{Table: "Orders", Key: key, Where: connectors.Where{
				All: []connectors.Condition{condition("customer", "=", `"`+strings.Repeat("x", 7000)+`"`)}}}},
		} {
			_, _, err := readOnce(t, newRead(c, test.q))
			if fault.CodeOf(err) != test.code {
				t.Errorf("%s: %v (%s), want %s", test.name, err, fault.CodeOf(err), test.code)
			}
		}
		r := newRead(c, byID)
		for _, cursor := range [][]byte{{1}, []byte("no cursor of ours"), make([]byte, 100)} {
			r.Cursor = cursor
			if _, _, err := readOnce(t, r); fault.CodeOf(err) != "E_QUERY" {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
		for _, spec := range []connectors.ImportSpec{{}, {Table: "Orders", Mode: "merge"}, {Table: "Orders", Mode: "upsert"},
			{Table: "Orders", Mode: "upsert", Key: []string{"note"}}, {Table: "Orders", Inbox: "true"}, {Table: "Nosuch"}} {
			if _, err := load(t, c, spec, rec("id", 9, "customer", "c")); err == nil || fault.ClassOf(err).Parks() {
				t.Errorf("%+v: %v", spec, err)
			}
		}
		if _, err := load(t, c, insert, rec("id", 9, "nosuch", 1)); fault.CodeOf(err) != "E_COLUMN_MISSING" || fault.From(err).Field != "nosuch" {
			t.Errorf("unknown field: %v", err)
		}
		if n := s.count(); n != 3 {
			t.Errorf("%d orders", n)
		}
	})
}

func TestSettings(t *testing.T) {
	for address, want := range map[string]string{
		"https://sap.plant.local/sap/opu/odata/sap/X": "sap.plant.local:443",
		"http://10.0.0.1:8000":                        "10.0.0.1:8000",
		"https://[::1]:44300/x/":                      "[::1]:44300",
		"ftp://x/":                                    "",
		"https://user:secret@x/":                      "",
		"https://x/?sap-client=100":                   "",
		"https://x/a/../b":                            "",
		"https://x:0/":                                "",
		"https://x:65536/":                            "",
		"https://x:/":                                 "",
		"https://a b/":                                "",
		"https:///x":                                  "",
		"https://x\\y/":                               "",
		"https://x,y/":                                "",
		"file:///etc/passwd":                          "",
		"https://x/#f":                                "",
		"sap.plant.local":                             "",
		"https://x/%2e%2e/%2e%2e/":                    "",
	} {
		settings, err := odataType.Settings.Validate(map[string]any{"url": address})
		if err != nil {
			t.Fatal(err)
		}
		got, err := odataType.Target(settings)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", address, got, err)
		}
		if err != nil && (fault.CodeOf(err) != "E_SETTINGS" || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, bad := range []map[string]any{{"client": "1"}, {"client": "1&x"}, {"language": "E&N"}} {
		bad["url"] = "https://x/"
		settings, err := odataType.Settings.Validate(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := odataType.Target(settings); fault.CodeOf(err) != "E_SETTINGS" {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestClientAndLanguageTravel: every request names them.
func TestClientAndLanguageTravel(t *testing.T) {
	s := newSite(t)
	s.fill(1, 60)
	seen, without := 0, ""
	s.front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		q, _ := url.ParseQuery(r.URL.RawQuery)
		if seen++; q.Get("sap-client") != "100" || q.Get("sap-language") != "EN" {
			without = r.URL.String()
		}
		return false
	})
	c := s.open("v4", func(m map[string]any) { m["client"], m["language"] = "100", "EN" })
	mustRead(t, c, connectors.Query{Table: "Orders"})
	mustLoad(t, c, insert, rec("id", 100, "customer", "c"))
	if without != "" || seen < 5 {
		t.Errorf("%d requests, without: %q", seen, without)
	}
}
