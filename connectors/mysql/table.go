package mysql

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// A table is what an import knows of its target. It is looked up for every
// page: values are checked here, and a column may have become another.
type table struct {
	name    sqldb.Table
	columns map[string]*column
	unique  map[string][]string // columns of the unique indexes, by name of the index
}

// A column is one column that can be written.
type column struct {
	name      string
	typeName  string // lower case, such as "varchar"
	unsigned  bool
	precision int // digits of a number, bits of a BIT
	scale     int // digits after the point, also of seconds; -1 = any
	length    int // characters or bytes; 0 = as many as the server takes
	text      bool
	generated bool
	// fillsNull means that the server would put a value of its own in the
	// place of a null, without a word.
	fillsNull bool
}

const columnsQuery = "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, COALESCE(NUMERIC_PRECISION, 0), " +
	"COALESCE(NUMERIC_SCALE, DATETIME_PRECISION, -1), COALESCE(CHARACTER_MAXIMUM_LENGTH, 0), " +
	"COALESCE(CHARACTER_SET_NAME, ''), EXTRA, IS_NULLABLE FROM information_schema.COLUMNS"

const enginesQuery = "SELECT t.TABLE_NAME, t.TABLE_TYPE, COALESCE(t.ENGINE, ''), COALESCE(e.TRANSACTIONS, '') " +
	"FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE"

const uniqueQuery = "SELECT TABLE_NAME, INDEX_NAME, CASE WHEN SUB_PART IS NULL THEN COALESCE(COLUMN_NAME, '') ELSE '' END " +
	"FROM information_schema.STATISTICS"

// about asks the catalogue about a table. Where letters do not count, and rows
// of tables come that differ in nothing else, those of the exact name are meant.
func (s *session) about(ctx context.Context, t sqldb.Table, query, alias, rest string) ([][]string, error) {
	rows, err := s.query(ctx, query+" WHERE "+alias+"TABLE_SCHEMA = "+string(appendQuoted(nil, t.Schema))+
		" AND "+alias+"TABLE_NAME = "+string(appendQuoted(nil, t.Name))+rest)
	other := func(row []string) bool { return row[0] != t.Name }
	if err == nil && slices.ContainsFunc(rows, func(row []string) bool { return !other(row) }) {
		rows = slices.DeleteFunc(rows, other)
	}
	return rows, err
}

// lookUp asks what the target is, and refuses one without transactions.
func (s *session) lookUp(ctx context.Context, text, database string) (*table, error) {
	t := &table{columns: map[string]*column{}, unique: map[string][]string{}}
	var err error
	if t.name, err = sqldb.ParseTable(text, database); err != nil {
		return nil, err
	}
	engines, err := s.about(ctx, t.name, enginesQuery, "t.", "")
	if err != nil {
		return nil, err
	}
	if len(engines) == 0 {
		return nil, s.absent(ctx, t.name)
	}
	if err := transactional(t.name, engines[0]); err != nil {
		return nil, err
	}
	columns, err := s.about(ctx, t.name, columnsQuery, "", "")
	if err != nil {
		return nil, err
	}
	for _, row := range columns {
		c, err := newColumn(row)
		if err != nil {
			return nil, err
		}
		t.columns[c.name] = c
	}
	indexes, err := s.about(ctx, t.name, uniqueQuery, "", " AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX")
	for _, row := range indexes {
		t.unique[row[1]] = append(t.unique[row[1]], row[2])
	}
	return t, err
}

// absent is the fault of a table that the catalogue does not show: it is not
// there, or not for this account.
func (s *session) absent(ctx context.Context, t sqldb.Table) error {
	if err := s.exec(ctx, "SELECT 1 FROM "+t.Quoted(sqldb.Backtick)+" LIMIT 0"); err != nil {
		return err
	}
	return fault.Of("E_PERMISSION").WithSource(name).
		WithCause("the account may not see the columns of " + t.Quoted(sqldb.Backtick))
}

func transactional(t sqldb.Table, row []string) error {
	kind, engine, transactions := row[1], row[2], row[3]
	f := fault.Of("E_QUERY").WithSource(name).WithSentence("the target of the import cannot be written to safely")
	switch {
	case transactions == "YES":
		return nil
	case kind != "BASE TABLE":
		return f.WithCause(t.Quoted(sqldb.Backtick) + " is a " + strings.ToLower(kind)).
			WithFix("import into the table behind it, then resume the job")
	}
	return f.WithCause(t.Quoted(sqldb.Backtick) + " is of engine " + engine + ", which has no transactions: " +
		"half a page could stay, and no page could be known to be there once").
		WithFix("change it (ALTER TABLE " + t.Quoted(sqldb.Backtick) + " ENGINE = InnoDB), then resume the job")
}

func newColumn(row []string) (*column, error) {
	precision, err1 := strconv.Atoi(row[4])
	scale, err2 := strconv.Atoi(row[5])
	length, err3 := strconv.ParseUint(row[6], 10, 63)
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, badWire("column")
	}
	c := &column{
		name: row[1], typeName: strings.ToLower(row[2]), precision: precision, scale: scale,
		length: int(length), text: row[7] != "",
	}
	extra := strings.ToUpper(row[8])
	c.unsigned = strings.Contains(strings.ToLower(row[3]), "unsigned")
	c.generated = strings.Contains(extra, "VIRTUAL") || strings.Contains(extra, "STORED") ||
		strings.Contains(extra, "PERSISTENT")
	c.fillsNull = row[9] == "NO" && (strings.Contains(extra, "AUTO_INCREMENT") || c.typeName == "timestamp")
	return c, nil
}

// hasUnique reports whether a unique index is on exactly the key's columns, and
// whether there are others.
func (t *table) hasUnique(key []string) (exact, others bool) {
	for _, columns := range t.unique {
		same := len(columns) == len(key)
		for _, k := range key {
			same = same && slices.Contains(columns, k)
		}
		exact, others = exact || same, others || !same
	}
	return exact, others
}

// ownTypes are the columns of MariaDB's own types, which it sends as text.
func (s *session) ownTypes(ctx context.Context, t sqldb.Table, database string) (map[string]string, error) {
	if !s.wire.mariaDB() {
		return nil, nil
	}
	if t.Schema == "" {
		t.Schema = database
	}
	schema, tableName := string(appendQuoted(nil, t.Schema)), string(appendQuoted(nil, t.Name))
	rows, err := s.query(ctx, "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = "+
		schema+" AND TABLE_NAME = "+tableName+" AND DATA_TYPE IN ('uuid', 'inet4', 'inet6') UNION ALL "+
		"SELECT CONSTRAINT_NAME, 'JSON' FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = "+schema+
		" AND TABLE_NAME = "+tableName+" AND CHECK_CLAUSE = CONCAT('json_valid(`', CONSTRAINT_NAME, '`)')")
	types := map[string]string{}
	for _, row := range rows {
		types[row[0]] = row[1]
	}
	return types, err
}
