package mysql

import (
	"fmt"
	"slices"

	"ropeway/connectors"
	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Rows are a batch as literals, ready to be put into statements of any cut.
type rows struct {
	chunks   []*chunk
	failed   []connectors.Failure // values that their columns cannot hold
	degraded []connectors.Failure // records whose offending field was left out
}

// A chunk is rows with the same columns: the literals of all cells, one after
// the other, each with a comma behind it.
type chunk struct {
	columns []output
	body    []byte
	ends    []int32 // of each cell in body, its comma included
	records []int   // which record of the batch each row is
}

// An output is a column that is written, and how.
type output struct {
	column *column
	write  cellWriter
}

func (c *chunk) rows() int { return len(c.records) }

// row is the cells of a row, with the last one's comma.
func (c *chunk) row(row int) []byte {
	n := len(c.columns)
	return c.body[c.start(row*n):c.ends[(row+1)*n-1]]
}

// cell is one literal.
func (c *chunk) cell(row, column int) []byte {
	i := row*len(c.columns) + column
	return c.body[c.start(i) : c.ends[i]-1]
}

func (c *chunk) start(cell int) int32 {
	if cell == 0 {
		return 0
	}
	return c.ends[cell-1]
}

func (c *chunk) names() []string {
	names := make([]string, len(c.columns))
	for i, t := range c.columns {
		names[i] = t.column.name
	}
	return names
}

// without is a chunk of one row of c that leaves one column out.
func (c *chunk) without(row, column int) *chunk {
	out := &chunk{
		columns: slices.Delete(slices.Clone(c.columns), column, column+1),
		records: []int{c.records[row]},
	}
	for i := range c.columns {
		if i != column {
			out.body = append(append(out.body, c.cell(row, i)...), ',')
			out.ends = append(out.ends, int32(len(out.body)))
		}
	}
	return out
}

// A builder turns a batch into rows.
type builder struct {
	table *table
	spec  connectors.ImportSpec
	limit int // bytes of a row
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

// build encodes the batch. limit is how long a statement may be.
func build(t *table, spec connectors.ImportSpec, in connectors.Batch, limit int) (*rows, error) {
	d, err := page.NewDecoder(in.Payload)
	if err != nil {
		return nil, err
	}
	b := &builder{table: t, spec: spec, limit: limit / 2, plans: map[planKey]*plan{}, rows: &rows{}}
	var shape *page.Shape
	for i := 0; d.Next(); i++ {
		record := d.Record()
		if b.current == nil || record.Shape != shape {
			if b.current, err = b.planFor(record.Shape, "", b.current); err != nil {
				return nil, err
			}
			shape = record.Shape
			b.expect(b.current, in, i)
		}
		if err := b.row(b.current, record, i); err != nil {
			return nil, err
		}
	}
	return b.rows, d.Err()
}

// expect makes room for the batch, guessing from its payload.
func (b *builder) expect(p *plan, in connectors.Batch, done int) {
	if p.chunk == nil || p.chunk.body != nil || done > 0 {
		return
	}
	p.chunk.body = make([]byte, 0, 2*len(in.Payload)+in.Records*4*len(p.fields))
	p.chunk.ends = make([]int32, 0, in.Records*len(p.fields))
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
	p := &plan{chunk: &chunk{}}
	if b.spec.Mode != connectors.Insert {
		for _, k := range b.spec.Key {
			i, present := shape.Index(k)
			if !present {
				p.absent = k
				return p, nil
			}
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
				WithCause(fmt.Sprintf("%s has no column %q", b.table.name.Quoted(sqldb.Backtick), n))
		}
		if c.generated {
			return nil, fault.Of("E_SCHEMA_DRIFT").WithSource(name).WithField(n).
				WithCause(fmt.Sprintf("the server computes the column %q itself", n)).
				WithFix("leave the field out in a map step, then resume the job")
		}
		p.fields = append(p.fields, i)
		p.chunk.columns = append(p.chunk.columns, output{column: c, write: writerOf(c)})
	}
	if len(p.fields) == 0 {
		return nil, fault.Of("E_COLUMN_MISSING").WithSource(name).WithCause("the records have no fields")
	}
	b.rows.chunks = append(b.rows.chunks, p.chunk)
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
	f := p.chunk.append(p, r, index, b.limit)
	switch {
	case f == nil:
		return nil
	case b.spec.FieldErrors.Removes(f.Field) && !slices.Contains(b.spec.Key, f.Field) && len(p.fields) > 1:
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
	if again := p.chunk.append(p, r, index, b.limit); again != nil {
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
func (c *chunk) append(p *plan, r page.Record, index, limit int) *fault.Error {
	body, ends := c.body, c.ends
	for i := range c.columns {
		v, t := &r.Values[p.fields[i]], &c.columns[i]
		switch {
		case !v.IsNull():
			var err error
			if body, err = t.write(body, v); err != nil {
				return fault.From(err).WithField(t.column.name)
			}
		case t.column.fillsNull:
			return fault.Of("E_MISSING").WithSource(name).WithField(t.column.name).
				WithSentence("a value that the target demands is null")
		default:
			body = append(body, "NULL"...)
		}
		body = append(body, ',')
		ends = append(ends, int32(len(body)))
	}
	if len(body)-len(c.body) > limit {
		return fault.Of("E_TOO_LARGE").WithSource(name).
			WithCause("the record is longer than a statement of the server may be (max_allowed_packet)")
	}
	c.body, c.ends = body, ends
	c.records = append(c.records, index)
	return nil
}
