package buffer

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Stored is a buffered page with its place in the order of arrival, which is the
// order within every chain.
type Stored struct {
	Position int64
	Page     *page.Page
}

// Next returns up to n unacked pages after a position, in order; 0 is the
// beginning. Damaged pages are set aside and skipped.
func (b *Buffer) Next(ctx context.Context, after int64, n int) ([]Stored, error) {
	var list []Stored
	for len(list) < n {
		entries, err := b.entries(ctx, "state = 0 AND id > ?", "LIMIT 64", after)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			after = e.id
			p, err := b.read(ctx, e)
			if isDamaged(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if list = append(list, Stored{e.id, p}); len(list) == n {
				break
			}
		}
	}
	return list, nil
}

// Scan calls visit for each unacked page in order until it returns an error.
func (b *Buffer) Scan(ctx context.Context, visit func(Stored) error) error {
	after := int64(0)
	for {
		list, err := b.Next(ctx, after, 8)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, s := range list {
			if err := visit(s); err != nil {
				return err
			}
			after = s.Position
		}
	}
}

// Page reads one page by name: E_NOT_FOUND when it is not here, E_CHECKSUM when
// it is damaged.
func (b *Buffer) Page(ctx context.Context, name string) (*page.Page, error) {
	list, err := b.entries(ctx, "name = ?", "", name)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.Of("E_NOT_FOUND").WithSource("agent").WithCause("no page " + name + " is buffered")
	}
	return b.read(ctx, list[0])
}

// Entry is one line of List.
type Entry struct {
	Name    string    `json:"name"`
	State   string    `json:"state"`
	Bytes   int64     `json:"bytes"`
	Records int       `json:"records"`
	Put     time.Time `json:"put"`

	id    int64
	state State
	hash  []byte
	sum   int64
}

// List returns up to n pages after the one named, in order of arrival, without
// reading their bodies. An empty name is the beginning.
func (b *Buffer) List(ctx context.Context, after string, n int) ([]Entry, error) {
	return b.entries(ctx, "id > coalesce((SELECT id FROM pages WHERE name = ?), 0)",
		fmt.Sprintf("LIMIT %d", max(n, 0)), after)
}

func (b *Buffer) entries(ctx context.Context, where, limit string, args ...any) ([]Entry, error) {
	rows, err := b.readers().QueryContext(ctx,
		"SELECT id, name, state, bytes, records, at, hash, sum FROM pages WHERE "+
			where+" ORDER BY id "+limit, args...)
	if err != nil {
		return nil, explain(err)
	}
	defer rows.Close()
	var list []Entry
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.id, &e.Name, &e.state, &e.Bytes, &e.Records, &at, &e.hash, &e.sum); err != nil {
			return nil, explain(err)
		}
		e.State, e.Put = e.state.String(), time.UnixMicro(at).UTC()
		list = append(list, e)
	}
	return list, explain(rows.Err())
}

func (b *Buffer) readers() *sql.DB {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.database.readers
}

// read opens one body and checks that it is what was put. A damaged page is set
// aside, loudly, and the others go on.
func (b *Buffer) read(ctx context.Context, e Entry) (*page.Page, error) {
	p, err := b.body(ctx, e)
	if err == nil || ctx.Err() != nil {
		return p, err
	}
	if !damaged(err) && !isDamaged(err) {
		return nil, explain(err)
	}
	if err := b.setAside(ctx, e, err); err != nil {
		return nil, err
	}
	return nil, fault.Of("E_CHECKSUM").WithSource("agent").Wrap(err).
		WithCause("buffered page " + e.Name + " is damaged and set aside")
}

func (b *Buffer) body(ctx context.Context, e Entry) (*page.Page, error) {
	var sealed sql.RawBytes
	rows, err := b.readers().QueryContext(ctx, "SELECT sealed FROM bodies WHERE id = ?", e.id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, err
		}
		return nil, fault.Of("E_CHECKSUM").WithCause("the body is missing")
	}
	if err := rows.Scan(&sealed); err != nil {
		return nil, err
	}
	return b.verify(e.Name, e.hash, e.sum, sealed)
}

// verify checks a body by checksum, by its seal and by the page's own hash. It
// keeps nothing of sealed.
func (b *Buffer) verify(name string, hash []byte, sum int64, sealed []byte) (*page.Page, error) {
	if checksum(name, sealed) != sum {
		return nil, fault.Of("E_CHECKSUM").WithCause("checksum differs")
	}
	p, _, err := page.OpenPage(sealed, b.keys)
	if err != nil {
		return nil, err
	}
	if got := p.Header.Hash(); p.Header.Name() != name || string(got[:]) != string(hash) {
		return nil, fault.Of("E_CHECKSUM").WithCause("the body belongs to another page")
	}
	return p, nil
}

func isDamaged(err error) bool { return err != nil && fault.CodeOf(err) == "E_CHECKSUM" }

func (b *Buffer) setAside(ctx context.Context, e Entry, why error) error {
	if e.state == Damaged {
		return nil
	}
	b.config.Log.Error("buffered page is damaged and set aside", "page", e.Name, "bytes", e.Bytes, "error", why)
	return b.commit(ctx, 0, func(t *tx) error {
		res, err := t.d.stmts.setAside.Exec(e.id, e.state)
		if err != nil {
			return fmt.Errorf("set page aside: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
		t.count.add(e.state, -1, -e.Bytes)
		t.count.add(Damaged, 1, e.Bytes)
		return nil
	})
}

// Report is what Verify found.
type Report struct {
	Checked int      `json:"checked"`
	Damaged []string `json:"damaged"` // names, also of pages set aside before
}

// Verify reads every page and sets damaged ones aside.
func (b *Buffer) Verify(ctx context.Context) (Report, error) {
	r := Report{Damaged: []string{}}
	after := int64(0)
	for {
		list, err := b.entries(ctx, "id > ?", "LIMIT 64", after)
		if err != nil || len(list) == 0 {
			return r, err
		}
		for _, e := range list {
			after = e.id
			_, err := b.read(ctx, e)
			switch {
			case err == nil:
			case isDamaged(err):
				r.Damaged = append(r.Damaged, e.Name)
			default:
				return r, err
			}
			r.Checked++
		}
	}
}
