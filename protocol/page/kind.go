package page

// A Kind is the type of a value. The numbers are part of the format.
type Kind uint8

// The kinds.
const (
	KindNull           Kind = 0
	KindBool           Kind = 1
	KindInt64          Kind = 2
	KindUint64         Kind = 3
	KindFloat32        Kind = 4
	KindFloat64        Kind = 5
	KindDecimal        Kind = 6 // exact, any precision, and NaN and infinities
	KindString         Kind = 7
	KindBytes          Kind = 8
	KindDate           Kind = 9  // days since 1970-01-01, years 1–9999
	KindTime           Kind = 10 // µs of the day, 0–24 h
	KindLocalTimestamp Kind = 11 // µs since 1970-01-01T00:00:00 without a zone
	KindTimestamp      Kind = 12 // µs since 1970-01-01T00:00:00Z and its offset
	KindInterval       Kind = 13 // months, days, µs
	KindUUID           Kind = 14
	KindArray          Kind = 15
	KindObject         Kind = 16
	KindJSON           Kind = 17 // verbatim text
	KindForeign        Kind = 18 // text of a type that has no kind here
	KindBlob           Kind = 19 // reference to a value kept in chunk pages

	kinds = 20
)

var kindNames = [kinds]string{
	"null", "bool", "int64", "uint64", "float32", "float64", "decimal", "string", "bytes",
	"date", "time", "local_timestamp", "timestamp", "interval", "uuid", "array", "object",
	"json", "foreign", "blob",
}

// String is the kind's name as the JSON form and messages use it.
func (k Kind) String() string {
	if k >= kinds {
		return "unknown"
	}
	return kindNames[k]
}

// A Special is a decimal that is not a number with digits.
type Special uint8

// The special decimals.
const (
	NaN         Special = 1
	Infinity    Special = 2
	NegInfinity Special = 3
)

// A Ref says where a value is that is too large to be inside its record.
type Ref struct {
	ID   ID
	Of   Kind   // KindBytes, KindString or KindJSON: what the value is
	Size uint64 // bytes
	Hash Hash   // SHA-256 of the whole value; zero if not known when written
}
