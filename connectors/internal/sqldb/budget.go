package sqldb

// A Budget chooses the LIMIT of keyset statements, so that a bounded read does
// not ask the system for much more than it takes.
type Budget struct {
	mean    int // bytes of a record; 0 = not known
	records int // seen by this read
	bytes   int
}

// firstRows is asked for while the size of records is not known.
const firstRows = 5_000

// NewBudget begins with the mean of an earlier read; 0 = not known.
func NewBudget(mean uint32) *Budget { return &Budget{mean: int(mean)} }

// Add counts one record.
func (b *Budget) Add(bytes int) {
	b.records++
	b.bytes += bytes
}

// Mean is the mean size of a record; 0 = not known.
func (b *Budget) Mean() uint32 {
	if b.records < 100 && b.mean > 0 {
		return uint32(b.mean)
	}
	if b.records == 0 {
		return 0
	}
	return uint32(max(b.bytes/b.records, 1))
}

// Rows is how many rows to ask for when the writer has room for so much: about
// a twentieth more than the mean says, one more to look at, at least 100.
func (b *Budget) Rows(records, bytes int) int {
	rows := firstRows
	if mean := int(b.Mean()); mean > 0 {
		rows = bytes/mean + bytes/mean/20 + 100
	}
	return min(rows, records) + 1
}
