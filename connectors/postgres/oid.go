package postgres

// The object ids of built-in types (pg_type.dat); they never change.
const (
	oidBool        = 16
	oidBytea       = 17
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidBPChar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
)

// elements maps the built-in array types whose elements have cells of their
// own to the type of the element.
var elements = map[uint32]uint32{
	199: oidJSON, 1000: oidBool, 1001: oidBytea, 1003: oidName, 1005: oidInt2, 1007: oidInt4,
	1009: oidText, 1014: oidBPChar, 1015: oidVarchar, 1016: oidInt8, 1021: oidFloat4,
	1022: oidFloat8, 1115: oidTimestamp, 1182: oidDate, 1183: oidTime, 1185: oidTimestamptz,
	1187: oidInterval, 1231: oidNumeric, 2951: oidUUID, 3807: oidJSONB,
}

// typeNames are the names of built-in types as format_type writes them, for
// the values that only their text can hold.
var typeNames = map[uint32]string{
	oidDate: "date", oidTimestamp: "timestamp without time zone",
	oidTimestamptz: "timestamp with time zone", oidInterval: "interval",
	199: "json[]", 1000: "boolean[]", 1001: "bytea[]", 1003: "name[]", 1005: "smallint[]",
	1007: "integer[]", 1009: "text[]", 1014: "character[]", 1015: "character varying[]",
	1016: "bigint[]", 1021: "real[]", 1022: "double precision[]",
	1115: "timestamp without time zone[]", 1182: "date[]", 1183: "time without time zone[]",
	1185: "timestamp with time zone[]", 1187: "interval[]", 1231: "numeric[]", 2951: "uuid[]",
	3807: "jsonb[]",
}

// native reports whether values of the type have a cell of their own.
func native(oid uint32) bool {
	switch oid {
	case oidBool, oidBytea, oidName, oidInt8, oidInt2, oidInt4, oidText, oidJSON, oidFloat4,
		oidFloat8, oidBPChar, oidVarchar, oidDate, oidTime, oidTimestamp, oidTimestamptz,
		oidInterval, oidNumeric, oidUUID, oidJSONB:
		return true
	}
	return false
}
