package postgres

import (
	"context"
	"strconv"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// A table is what an import knows of its target.
type table struct {
	name    sqldb.Table
	columns map[string]*column
	// staged means that COPY cannot write to it: a view, or row-level
	// security applies to the role.
	staged bool
	// identity means that a column is GENERATED ALWAYS AS IDENTITY.
	identity bool
	// lockable means that LOCK TABLE works on it: not on foreign tables, nor
	// with privileges on single columns only.
	lockable bool
	// columnsNow is what columnsNowQuery answered.
	columnsNow string
}

// A column is one column that can be written. Domains are seen as the type
// below them; the server checks their constraints.
type column struct {
	name     string
	oid      uint32
	typmod   int32  // -1 = none
	typeName string // without typmod and default length, as a cast names it
	element  uint32 // of an array; else 0

	generated bool
}

const columnsQuery = `
WITH RECURSIVE base AS (
  SELECT a.attnum, a.attname, a.atttypid AS typ, a.atttypmod AS typmod,
         a.attgenerated, a.attidentity
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, b.attname, t.typbasetype,
         CASE WHEN b.typmod = -1 THEN t.typtypmod ELSE b.typmod END,
         b.attgenerated, b.attidentity
  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typ
  WHERE t.typtype = 'd'
)
SELECT b.attname, b.typ, b.typmod,
       CASE b.typ WHEN 1042 THEN 'bpchar' WHEN 1014 THEN 'bpchar[]' WHEN 1560 THEN 'varbit'
         WHEN 1561 THEN 'varbit[]' ELSE pg_catalog.format_type(b.typ, NULL) END,
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END,
       b.attgenerated <> '', b.attidentity = 'a',
       c.relkind NOT IN ('r', 'p', 'f') OR pg_catalog.row_security_active(c.oid),
       c.relkind IN ('r', 'p', 'v')
         AND pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')
FROM base b
JOIN pg_catalog.pg_type t ON t.oid = b.typ
JOIN pg_catalog.pg_class c ON c.oid = $1::regclass
WHERE t.typtype <> 'd'
ORDER BY b.attnum`

// columnsNowQuery tells whether the columns are still those that were looked
// up. Every import asks it in its transaction, because rows in binary form
// would be misread, silently, by a column of another type.
const columnsNowQuery = `
SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid,
  a.atttypmod, a.attgenerated), ',' ORDER BY a.attnum)
FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::regclass AND a.attnum > 0`

// table looks the target up, or remembers it.
func (c *conn) table(ctx context.Context, s *session, text string) (*table, error) {
	name, err := sqldb.ParseTable(text, c.settings.String("schema"))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	known := c.tables[name.String()]
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	t, err := s.lookUp(ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.tables[name.String()] = t
	c.mu.Unlock()
	return t, nil
}

// forgetTables makes the next import look again.
func (c *conn) forgetTables() {
	c.mu.Lock()
	clear(c.tables)
	c.mu.Unlock()
}

func (s *session) lookUp(ctx context.Context, name sqldb.Table) (*table, error) {
	now, err := s.query(ctx, columnsNowQuery, name.String())
	if err != nil {
		return nil, err
	}
	rows, err := s.query(ctx, columnsQuery, name.String())
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fault.Of("E_TABLE_MISSING").WithCause(name.String() + " has no columns")
	}
	t := &table{name: name, columns: make(map[string]*column, len(rows)), columnsNow: string(now[0][0])}
	for _, row := range rows {
		oid, err1 := strconv.ParseUint(string(row[1]), 10, 32)
		typmod, err2 := strconv.ParseInt(string(row[2]), 10, 32)
		element, err3 := strconv.ParseUint(string(row[4]), 10, 32)
		if err1 != nil || err2 != nil || err3 != nil {
			return nil, badWire("column", nil)
		}
		t.columns[string(row[0])] = &column{
			name: string(row[0]), oid: uint32(oid), typmod: int32(typmod),
			typeName: string(row[3]), element: uint32(element), generated: string(row[5]) == "t",
		}
		t.identity = t.identity || string(row[6]) == "t"
		t.staged = t.staged || string(row[7]) == "t"
		t.lockable = string(row[8]) == "t"
	}
	return t, nil
}

// scale is how many digits after the point the column's type holds.
func (c *column) scale() int {
	if c.typmod < 4 {
		return maxScale
	}
	return (int(c.typmod-4)&0x7FF ^ 1024) - 1024 // negative since PostgreSQL 15
}
