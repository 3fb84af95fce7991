package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Rows are a batch in the binary form of COPY, ready to be sent in any cut.
type rows struct {
	chunks   []*chunk
	failed   []connectors.Failure // values that their columns cannot hold
	degraded []connectors.Failure // records whose offending field was left out
}

// A chunk is rows with the same columns.
type chunk struct {
	columns []output
	staged  bool // rows begin with their place in the chunk, for the stage table
	body    []byte
	starts  []int // of each row in body
	records []int // which record of the batch each row is
	live    *live // shows the body while it grows; nil = it is not streamed
	shown   int   // bytes of body that live shows
}

// An output is a column that is written, and how.
type output struct {
	column *column
	write  cellWriter
	cast   bool // sent as text; the server casts it
}

func (c *chunk) rows() int { return len(c.records) }

// slice is the bytes of rows [lo, hi).
func (c *chunk) slice(lo, hi int) []byte {
	end := len(c.body)
	if hi < len(c.starts) {
		end = c.starts[hi]
	}
	return c.body[c.starts[lo]:end]
}

// without is a chunk of one row of c that leaves one column out.
func (c *chunk) without(row, column int) *chunk {
	src := c.slice(row, row+1)
	out := &chunk{
		columns: slices.Delete(slices.Clone(c.columns), column, column+1), staged: c.staged,
		starts: []int{0}, records: []int{c.records[row]},
	}
	cells := int(binary.BigEndian.Uint16(src))
	out.body = binary.BigEndian.AppendUint16(nil, uint16(cells-1))
	skip := column
	if c.staged {
		skip++
	}
	for i, at := 0, 2; i < cells; i++ {
		end := at + 4 + int(max(int32(binary.BigEndian.Uint32(src[at:])), 0))
		if i != skip {
			out.body = append(out.body, src[at:end]...)
		}
		at = end
	}
	if c.staged { // it is the first row of its chunk
		binary.BigEndian.PutUint32(out.body[6:], 0)
	}
	return out
}

// A builder turns a batch into rows.
type builder struct {
	table *table
	spec  connectors.ImportSpec
	cast  map[string]bool // columns that must go as text
	first chan<- *chunk   // takes the first chunk if it can be streamed
	plans map[planKey]*plan
	rows  *rows

	current *plan // of the last record; nil = the next one begins anew
}

type planKey struct {
	shape *page.Shape
	drop  string // a field left out; "" = none
}

// A plan says how records of one shape become rows.
type plan struct {
	fields []int // of the record, one per column
	keys   []int // fields that must not be null
	chunk  *chunk
	absent string // a key field that the shape does not have
}

// build encodes the batch. When a column turns out to need the server's help,
// it begins again with that column as text: at most once per column. first
// (room for one) takes the first chunk as soon as it exists, if the chunk can
// be streamed to the server while it grows.
func build(t *table, spec connectors.ImportSpec, in connectors.Batch, first chan<- *chunk) (*rows, error) {
	b := &builder{table: t, spec: spec, cast: map[string]bool{}, first: first}
	for {
		err := b.encode(in)
		var needs *needsText
		again := errors.As(err, &needs)
		b.endLive(err)
		if !again {
			return b.rows, err
		}
		b.cast[needs.column] = true
	}
}

// endLive tells the reader of the first chunk how it ended.
func (b *builder) endLive(err error) {
	if b.rows == nil || len(b.rows.chunks) == 0 || b.rows.chunks[0].live == nil {
		return
	}
	c := b.rows.chunks[0]
	if err != nil {
		err = errRestarted
	}
	c.live.end(c.body, err)
}

// needsText is errAsText with the column.
type needsText struct{ column string }

func (*needsText) Error() string { return errAsText.Error() }

func (b *builder) encode(in connectors.Batch) error {
	d, err := page.NewDecoder(in.Payload)
	if err != nil {
		return err
	}
	b.plans = map[planKey]*plan{}
	b.rows = &rows{}
	b.current = nil
	var shape *page.Shape
	for i := 0; d.Next(); i++ {
		record := d.Record()
		if b.current == nil || record.Shape != shape {
			if b.current, err = b.planFor(record.Shape, "", b.current); err != nil {
				return err
			}
			shape = record.Shape
			b.expect(b.current, in, i)
		}
		if err := b.row(b.current, record, i); err != nil {
			return err
		}
	}
	return d.Err()
}

// expect makes room for the rest of the batch, guessing from its payload.
func (b *builder) expect(p *plan, in connectors.Batch, done int) {
	if p.chunk == nil || p.chunk.body != nil || done > 0 {
		return
	}
	p.chunk.body = make([]byte, 0, len(in.Payload)+in.Records*(4*len(p.fields)+16))
	p.chunk.starts = make([]int, 0, in.Records)
	p.chunk.records = make([]int, 0, in.Records)
}

// planFor returns the plan of a shape. An insert keeps one chunk per shape; the
// other modes begin a new one whenever the shape changes, because the order of
// records of one key counts.
func (b *builder) planFor(shape *page.Shape, drop string, last *plan) (*plan, error) {
	key := planKey{shape, drop}
	if p := b.plans[key]; p != nil && (b.spec.Mode == connectors.Insert || p == last) {
		return p, nil
	}
	p, err := b.newPlan(shape, drop)
	if err == nil {
		b.plans[key] = p
	}
	return p, err
}

func (b *builder) newPlan(shape *page.Shape, drop string) (*plan, error) {
	p := &plan{chunk: &chunk{staged: b.spec.Mode != connectors.Insert || b.table.staged}}
	for _, k := range b.spec.Key {
		i, present := shape.Index(k)
		if !present && b.spec.Mode != connectors.Insert {
			p.absent = k
			return p, nil
		}
		if present && b.spec.Mode != connectors.Insert {
			p.keys = append(p.keys, i)
		}
	}
	for i, n := range shape.Names {
		if n == drop || b.spec.Mode == connectors.Delete && !slices.Contains(b.spec.Key, n) {
			continue
		}
		c := b.table.columns[n]
		if c == nil {
			return nil, fault.Of("E_COLUMN_MISSING").WithSource(name).WithField(n).
				WithCause(fmt.Sprintf("%s has no column %q", b.table.name, n))
		}
		if c.generated {
			return nil, fault.Of("E_SCHEMA_DRIFT").WithSource(name).WithField(n).
				WithCause(fmt.Sprintf("the server computes the column %q itself", n)).
				WithFix("leave the field out in a map step, then resume the job")
		}
		t := output{column: c, write: writerOf(c)}
		if t.write == nil || b.cast[n] {
			t.cast, t.write = true, appendCastCell
			p.chunk.staged = true
		}
		p.fields = append(p.fields, i)
		p.chunk.columns = append(p.chunk.columns, t)
	}
	if len(p.fields) == 0 {
		return nil, fault.Of("E_COLUMN_MISSING").WithSource(name).WithCause("the records have no fields")
	}
	b.rows.chunks = append(b.rows.chunks, p.chunk)
	if len(b.rows.chunks) == 1 && !p.chunk.staged && b.first != nil {
		p.chunk.live = newLive()
		b.first <- p.chunk
		b.first = nil
	}
	return p, nil
}

// row appends one record, or notes why it has no place in the table.
func (b *builder) row(p *plan, r page.Record, index int) error {
	if p.absent != "" {
		b.fail(index, sqldb.MissingKey(name, p.absent))
		return nil
	}
	for _, k := range p.keys {
		if r.Values[k].IsNull() {
			b.fail(index, sqldb.MissingKey(name, r.Shape.Names[k]))
			return nil
		}
	}
	f, err := p.chunk.append(p, r, index)
	switch {
	case err != nil:
		return err
	case f == nil:
		return nil
	case b.spec.FieldErrors.Removes(f.Field) && !slices.Contains(b.spec.Key, f.Field):
		return b.degrade(f, r, index)
	}
	b.fail(index, f)
	return nil
}

// degrade tries the record once more without the offending field.
func (b *builder) degrade(f *fault.Error, r page.Record, index int) error {
	p, err := b.planFor(r.Shape, f.Field, nil)
	if err != nil {
		return err
	}
	again, err := p.chunk.append(p, r, index)
	if err != nil {
		return err
	}
	if again != nil {
		b.fail(index, f)
		return nil
	}
	b.rows.degraded = append(b.rows.degraded, connectors.Failure{Index: index, Fault: f})
	if b.spec.Mode != connectors.Insert {
		b.current = nil // what follows must be applied after it
	}
	return nil
}

func (b *builder) fail(index int, f *fault.Error) {
	b.rows.failed = append(b.rows.failed, connectors.Failure{Index: index, Fault: f})
}

// append appends one row. A value that its column cannot hold takes the row
// back and is returned as a fault.
func (c *chunk) append(p *plan, r page.Record, index int) (*fault.Error, error) {
	start := len(c.body)
	body := c.body
	cells := len(c.columns)
	if c.staged {
		body = binary.BigEndian.AppendUint16(body, uint16(cells+1))
		body = binary.BigEndian.AppendUint32(append(body, 0, 0, 0, 4), uint32(c.rows()))
	} else {
		body = binary.BigEndian.AppendUint16(body, uint16(cells))
	}
	for i := range c.columns {
		v := &r.Values[p.fields[i]]
		if v.IsNull() {
			body = append(body, 0xFF, 0xFF, 0xFF, 0xFF)
			continue
		}
		var err error
		if body, err = c.columns[i].write(body, v); err != nil {
			c.body = body[:start]
			if errors.Is(err, errAsText) {
				return nil, &needsText{c.columns[i].column.name}
			}
			return fault.From(err).WithField(c.columns[i].column.name), nil
		}
	}
	c.body = body
	c.starts = append(c.starts, start)
	c.records = append(c.records, index)
	if c.live != nil && len(body)-c.shown >= showEvery {
		c.shown = len(body)
		c.live.publish(body)
	}
	return nil, nil
}

// showEvery is how many bytes of rows are shown to the stream at a time.
const showEvery = 32 << 10
