package odata

import (
	"encoding/json"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/page"
)

func metadataOf(t testing.TB, file string) *service {
	t.Helper()
	b, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := parseMetadata(b)
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

// TestMetadataOfGateway reads what SAP Gateway writes for a service of version
// 2: associations, ETags, SAP's own attributes.
func TestMetadataOfGateway(t *testing.T) {
	svc := metadataOf(t, "gateway2.xml")
	order := svc.sets["SalesOrderSet"]
	if svc.version != 2 || order == nil || !order.etag {
		t.Fatalf("version %d, order %+v", svc.version, order)
	}
	if diff := cmp.Diff([]string{"SalesOrder", "Plant"}, order.key); diff != "" {
		t.Error(diff)
	}
	items := order.byName["ToItems"]
	if items == nil || !items.navigation || !items.collection || items.of != svc.sets["ItemSet"] {
		t.Errorf("items: %+v", items)
	}
	net := order.byName["NetAmount"]
	if net.prim != decimal || net.precision != 16 || net.scale != 3 {
		t.Errorf("net amount: %+v", net)
	}
	if p := order.byName["CreationDate"]; p.prim != dateTime || !p.dateOnly {
		t.Errorf("creation date: %+v", p)
	}
	if p := order.byName["Address"]; p.prim != structured || p.of.byName["City"].maxLength != 40 {
		t.Errorf("address: %+v", p)
	}
	if svc.sets["ItemSet"].etag {
		t.Error("items have an ETag")
	}
}

// TestMetadataOfRAP reads version 4: aliases, inheritance, enumerations,
// definitions, collections, optimistic locks by annotation.
func TestMetadataOfRAP(t *testing.T) {
	svc := metadataOf(t, "rap4.xml")
	order := svc.sets["Orders"]
	if svc.version != 4 || order == nil || !order.etag {
		t.Fatalf("version %d, order %+v", svc.version, order)
	}
	if diff := cmp.Diff([]string{"ID"}, order.key); diff != "" {
		t.Error(diff)
	}
	for field, want := range map[string]primitive{"ID": guid, "State": enumeration, "Amount": decimal, "Tags": text,
		"Ship": structured, "Photo": stream, "Until": duration} {
		if p := order.byName[field]; p == nil || p.prim != want {
			t.Errorf("%s: %+v", field, p)
		}
	}
	if !order.byName["Tags"].collection || order.byName["Amount"].scale != -1 {
		t.Errorf("%+v %+v", order.byName["Tags"], order.byName["Amount"])
	}
	if fields := order.fields(); fields[0].name != "ID" || len(fields) != 6 {
		t.Errorf("%d fields, the first is %s", len(fields), fields[0].name)
	}
}

func TestMetadataThatInheritsInACircle(t *testing.T) {
	_, err := parseMetadata([]byte(`<Edmx Version="4.0"><DataServices><Schema Namespace="n">
		<EntityType Name="A" BaseType="n.B"/><EntityType Name="B" BaseType="n.A"/></Schema></DataServices></Edmx>`))
	if err == nil {
		t.Error("it is taken")
	}
}

func decoded(s string) page.Value {
	v, err := page.DecimalFromString(s)
	if err != nil {
		panic(err)
	}
	return v
}

// TestValuesOfBothVersions: what each version writes, and what does not fit
// comes as it is.
func TestValuesOfBothVersions(t *testing.T) {
	for _, test := range []struct {
		prim primitive
		json string
		want page.Value
	}{
		{int32Int, `5`, page.Int(5)}, {int64Int, `"9223372036854775807"`, page.Int(math.MaxInt64)},
		{int64Int, `9223372036854775808`, page.Foreign("T", "9223372036854775808")}, {int32Int, `1.0`, page.Foreign("T", "1.0")},
		{decimal, `"12345678901234567890.1234567890"`, decoded("12345678901234567890.1234567890")},
		{decimal, `0.10`, decoded("0.10")}, {decimal, `1E+2`, decoded("1E+2")}, {decimal, `"NaN"`, page.Foreign("T", "NaN")},
		{double, `"INF"`, page.Float(math.Inf(1))}, {double, `"-INF"`, page.Float(math.Inf(-1))}, {double, `1.5E-3`, page.Float(0.0015)},
		{double, `"NaN"`, page.Float(math.NaN())}, {double, `"0x1p4"`, page.Foreign("T", "0x1p4")}, {single, `0.1`, page.Float32(0.1)},
		{boolean, `true`, page.Bool(true)}, {boolean, `"yes"`, page.Foreign("T", "yes")}, {text, `"0000"`, page.String("0000")},
		{text, `5`, page.String("5")}, {text, `{"a":1}`, page.JSON([]byte(`{"a":1}`))}, {text, `null`, page.Null()}, {text, ``, page.Null()},
		{guid, `"00000000-0000-0000-0000-000000000001"`, page.UUID([16]byte{15: 1})}, {guid, `"x"`, page.Foreign("T", "x")},
		{bytesType, `"AP_-"`, page.Bytes([]byte{0, 0xff, 0xfe})}, {bytesType, `"AA=="`, page.Bytes([]byte{0})}, {bytesType, `"*"`, page.Foreign("T", "*")},
		{dateTime, `"/Date(0)/"`, page.LocalTimestamp(0)}, {dateTime, `"/Date(-62135596800000)/"`, page.LocalTimestamp(-62135596800000000)},
		{dateTime, `"/Date(253402300799999)/"`, page.LocalTimestamp(253402300799999000)}, {dateTime, `"2024-01-31T00:00:00.5"`, page.LocalTimestamp(1706659200500000)},
		{dateTime, `"/Date(253402300800000)/"`, page.Foreign("T", "/Date(253402300800000)/")}, {dateTime, `"/Date(x)/"`, page.Foreign("T", "/Date(x)/")},
		{dateTimeOffset, `"/Date(1000+0000)/"`, page.Timestamp(1_000_000, 0)}, {dateTimeOffset, `"/Date(1000-0090)/"`, page.Timestamp(1_000_000, -5400)},
		{dateTimeOffset, `"2024-01-31T12:00:00.123456+02:00"`, page.Timestamp(1706695200123456, 7200)}, {dateTimeOffset, `"2024-01-31T12:00Z"`, page.Timestamp(1706702400000000, 0)},
		{dateTimeOffset, `"2024-01-31T12:00:00.1234567Z"`, page.Foreign("T", "2024-01-31T12:00:00.1234567Z")},
		{dateTimeOffset, `"2024-01-31T12:00:00.123456000000Z"`, page.Timestamp(1706702400123456, 0)},
		{date, `"2024-02-29"`, page.Date(19782)}, {date, `"2023-02-29"`, page.Foreign("T", "2023-02-29")},
		{timeOfDay, `"23:59:59.999999"`, page.Time(86399999999)}, {timeOfDay, `"24:00:00"`, page.Foreign("T", "24:00:00")},
		{timeV2, `"PT23H59M59.5S"`, page.Time(86399500000)}, {timeV2, `"PT0S"`, page.Time(0)}, {timeV2, `"PT24H"`, page.Foreign("T", "PT24H")},
		{timeV2, `"-PT1H"`, page.Foreign("T", "-PT1H")}, {timeV2, `"PT"`, page.Foreign("T", "PT")},
		{duration, `"P1DT2H"`, page.Interval(0, 1, 7_200_000_000)}, {duration, `"-P1DT0.5S"`, page.Interval(0, -1, -500_000)},
		{duration, `"P1M"`, page.Foreign("T", "P1M")}, {unknown, `{"type":"Point"}`, page.JSON([]byte(`{"type":"Point"}`))}, {unknown, `"x"`, page.Foreign("T", "x")},
	} {
		p := &property{name: "p", typ: "T", prim: test.prim, precision: -1, scale: -1}
		if got := p.value(json.RawMessage(test.json)); !page.Equal(got, test.want) {
			t.Errorf("%d %s: got %s %v, want %s %v", test.prim, test.json, got.Kind(), got, test.want.Kind(), test.want)
		}
	}
	p := &property{name: "p", typ: "T", prim: dateTime, dateOnly: true}
	if got := p.value(json.RawMessage(`"/Date(1706659200000)/"`)); !page.Equal(got, page.Date(19753)) {
		t.Errorf("date of version 2: %v", got)
	}
	p = &property{name: "p", prim: int32Int, collection: true}
	want := page.Array([]page.Value{page.Int(1), page.Null()})
	for _, raw := range []string{`[1,null]`, `{"results":[1,null]}`} {
		if got := p.value(json.RawMessage(raw)); !page.Equal(got, want) {
			t.Errorf("%s: %v", raw, got)
		}
	}
}

func TestLiterals(t *testing.T) {
	moment := page.Timestamp(1706659200123456, 3600)
	for _, test := range []struct {
		prim   primitive
		v      page.Value
		v2, v4 string
	}{
		{text, page.String("O'Brien'); x"), "'O''Brien''); x'", "'O''Brien''); x'"},
		{int32Int, page.Int(-5), "-5", "-5"}, {int64Int, page.Int(5), "5L", "5"}, {decimal, decoded("1.50"), "1.50M", "1.50"},
		{double, page.Float(1.5), "1.5d", "1.5"}, {boolean, page.Bool(true), "true", "true"},
		{guid, page.UUID([16]byte{15: 1}), "guid'00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"},
		{bytesType, page.Bytes([]byte{0, 255}), "X'00FF'", "binary'AP8='"},
		{dateTime, page.LocalTimestamp(1706659200123456), "datetime'2024-01-31T00:00:00.123456'", "2024-01-31T00:00:00.123456Z"},
		{dateTimeOffset, moment, "datetimeoffset'2024-01-31T00:00:00.123456Z'", "2024-01-31T01:00:00.123456+01:00"},
		{timeV2, page.Time(3_600_000_000), "time'PT01H00M00S'", "PT01H00M00S"}, {timeOfDay, page.Time(3_600_000_000), "01:00:00", "01:00:00"},
		{date, page.Date(19753), "2024-01-31", "2024-01-31"}, {duration, page.Interval(0, 1, 1), "P1DT00H00M00.000001S", "duration'P1DT00H00M00.000001S'"},
		{enumeration, page.String("open"), "n.State'open'", "n.State'open'"}, {text, page.Null(), "null", "null"},
	} {
		p := &property{name: "p", typ: "n.State", prim: test.prim, precision: 0, scale: 0, maxLength: 1}
		for version, want := range map[int]string{2: test.v2, 4: test.v4} {
			if got, err := (form{version}).literal(test.v, p); err != nil || got != want {
				t.Errorf("version %d: %q, want %q (%v)", version, got, want, err)
			}
		}
	}
}

// TestComplaints reads error bodies of SAP Gateway, RAP and CAP.
func TestComplaints(t *testing.T) {
	order := metadataOf(t, "gateway2.xml").sets["SalesOrderSet"]
	c := &conn{env: testEnv()}
	for _, test := range []struct {
		name, body        string
		status            int
		code, field, want string
	}{
		{"gateway JSON", `{"error":{"code":"V1/555","message":{"lang":"en","value":"Order type X\n is not defined"},"innererror":{"application":{},
			"transactionid":"5F","errordetails":[{"code":"V1/555","message":"Order type X is not defined","propertyref":"SalesOrder/OrderType","severity":"error","target":""},
			{"code":"/IWBEP/CX_MGW_BUSI_EXCEPTION","message":"","severity":"error"}]}}}`, 400, "E_VALUE", "OrderType", "Order type X is not defined (HTTP status 400, code V1/555)"},
		{"gateway XML", `<?xml version="1.0"?><error xmlns="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"><code>/IWBEP/CM_MGW_RT/020</code>
			<message xml:lang="en">Resource not found</message><innererror><errordetails><errordetail><code>X</code><message>No order 5</message><propertyref/>
			<target>NetAmount</target></errordetail></errordetails></innererror></error>`, 404, "E_MISSING", "NetAmount", "Resource not found; No order 5"},
		{"RAP", `{"error":{"code":"ZSD/001","message":"Plant is locked","target":"Plant","details":[{"code":"ZSD/002","message":"By user MAIER","target":"Plant"}]}}`,
			400, "E_VALUE", "Plant", "Plant is locked; By user MAIER"},
		{"CAP not null", `{"error":{"message":"NOT NULL constraint failed: Orders.customer","code":"SQLITE_CONSTRAINT_NOTNULL"}}`, 500, "E_MISSING", "", "NOT NULL"},
		{"CAP unique", `{"error":{"message":"x","code":"SQLITE_CONSTRAINT_PRIMARYKEY"}}`, 500, "E_DUPLICATE", "", "x"},
		{"CAP several", `{"error":{"message":"Multiple errors","code":"MULTIPLE_ERRORS","details":[{"code":"ASSERT_MANDATORY","message":"m","target":"in/NetAmount"}]}}`,
			400, "E_MISSING", "NetAmount", "Multiple errors; m"},
		{"inner target", `{"error":{"message":"m","code":"C","target":"/#TRANSIENT#/ToItems(pos=1)/Price"}}`, 400, "E_VALUE", "ToItems", "m"},
		{"number as code", `{"error":{"code":404,"message":"m"}}`, 409, "E_DUPLICATE", "", "m (HTTP status 409, code 404)"},
		{"no body", ``, 409, "E_DUPLICATE", "", "HTTP status 409 Conflict"},
		{"HTML", `<html><head><title>500 SAP Internal Server Error</title></head></html>`, 500, "E_INTERMITTENT", "", "SAP Internal Server Error"},
		{"conflict of another kind", `{"error":{"code":"/BOBF/LOCK","message":"locked"}}`, 423, "E_INTERMITTENT", "", "locked"},
	} {
		f := c.faultOf(&httpapi.Answer{Source: name, Status: test.status, Body: []byte(test.body), Header: http.Header{}}, order)
		if f.Code != test.code || f.Field != test.field || !strings.Contains(f.Cause, test.want) {
			t.Errorf("%s: %s, field %q, cause %q", test.name, f.Code, f.Field, f.Cause)
		}
	}
}

// TestBatchOfGateway reads an answer as SAP Gateway writes it: CRLF, change
// sets, an error in place of one, a body without length.
func TestBatchOfGateway(t *testing.T) {
	body, err := os.ReadFile("testdata/batch2.txt")
	if err != nil {
		t.Fatal(err)
	}
	body = []byte(strings.ReplaceAll(string(body), "\n", "\r\n"))
	header := http.Header{"Content-Type": {"multipart/mixed; boundary=0E3C9B1A"}}
	answers, err := parseBatch(&httpapi.Answer{Header: header, Body: body}, 4)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, a := range answers {
		got = append(got, a.Status)
	}
	if diff := cmp.Diff([]int{201, 400, 204, 404}, got); diff != "" {
		t.Fatal(diff)
	}
	said, ok := parseComplaint(answers[1].Body)
	if !ok || said.Code != "SD/042" {
		t.Errorf("%+v", said)
	}
	if _, err := parseBatch(&httpapi.Answer{Header: header, Body: body}, 2); err == nil {
		t.Error("more answers than requests are taken")
	}
}
