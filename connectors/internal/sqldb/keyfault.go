package sqldb

import "ropeway/protocol/fault"

// NotUnique is the fault of an export whose key is in two rows: one of them
// could be lost between two pages.
func NotUnique(source string) *fault.Error {
	return fault.Of("E_QUERY").WithSource(source).
		WithSentence("the key of the export is not unique").
		WithFix("name columns in `key` that are unique together, then start the job again")
}

// NullKey is the fault of an export whose key is null in some rows: they have
// no place in the order.
func NullKey(source, column string) *fault.Error {
	return fault.Of("E_QUERY").WithSource(source).WithField(column).
		WithSentence("the key of the export is null in some rows").
		WithFix("name columns in `key` that are never null, or leave these rows out in the query")
}

// MissingKey is the fault of a record without a value in the key of the import.
func MissingKey(source, field string) *fault.Error {
	return fault.Of("E_MISSING").WithSource(source).WithField(field).
		WithSentence("the record has no value in its key")
}

// NoSuchRow is the fault of an update whose row is not there.
func NoSuchRow(source, field string) *fault.Error {
	return fault.Of("E_MISSING").WithSource(source).WithField(field).
		WithSentence("there is no row with the key of the record")
}
