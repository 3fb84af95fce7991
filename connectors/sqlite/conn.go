package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net/url"
	"os"
	"strconv"

	"github.com/mattn/go-sqlite3"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// A conn is the settings of a database file. Every request opens the file
// anew, which is cheap, so that the policy sees each of them.
type conn struct {
	env      connectors.Env
	settings connectors.Settings
}

// Close has nothing to release.
func (c *conn) Close() error { return nil }

// A db is one open handle, used by one request.
type db struct{ *sqlite3.SQLiteConn }

// with opens the file, runs f and makes a fault of its error.
func (c *conn) with(ctx context.Context, write bool, f func(d db) error) error {
	if err := ctx.Err(); err != nil {
		return toFault(ctx, err)
	}
	d, err := c.open(write)
	if err != nil {
		return toFault(ctx, err)
	}
	defer d.Close()
	return toFault(ctx, f(d))
}

func (c *conn) open(write bool) (db, error) {
	path, err := c.path()
	if err != nil {
		return db{}, err
	}
	options := url.Values{
		"_busy_timeout": {strconv.FormatInt(c.settings.Duration("busyTimeout").Milliseconds(), 10)},
		"_foreign_keys": {"on"},
		"mode":          {"ro"},
		"_query_only":   {"on"},
	}
	if write {
		options.Set("mode", "rw")
		options.Set("_query_only", "off")
		options.Set("_synchronous", "FULL")
	}
	// Everything but the path is ours: an escaped path cannot add options.
	file := (&url.URL{Path: path}).EscapedPath()
	opened, err := (&sqlite3.SQLiteDriver{}).Open("file:" + file + "?" + options.Encode())
	if err != nil {
		return db{}, err
	}
	d := db{opened.(*sqlite3.SQLiteConn)}
	d.RegisterAuthorizer(authorize)
	return d, nil
}

// path is the file to open, if the policy allows it and it is one: a FIFO or a
// device would block or never end.
func (c *conn) path() (string, error) {
	path, err := c.env.Path(c.settings.String("path"))
	if err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			return "", err
		}
		return "", fault.Of("E_UNREACHABLE").WithSource(name).WithCause(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fault.Of("E_UNREACHABLE").WithSource(name).WithCause(err)
	}
	if !info.Mode().IsRegular() {
		return "", fault.Of("E_UNREACHABLE").WithSource(name).WithCause(path + " is not a file")
	}
	return path, nil
}

// Actions of SQLite's authorizer (sqlite3.h) that would leave the file.
const (
	actionPragma = 19
	actionAttach = 24
	actionDetach = 25
)

// authorize keeps statements inside the file: ATTACH (and VACUUM INTO, which
// uses it) would open others, past the policy; pragmas would change settings.
func authorize(action int, first, _, _ string) int {
	switch {
	case action == actionAttach || action == actionDetach:
		return sqlite3.SQLITE_DENY
	case action == actionPragma && first != "table_xinfo":
		return sqlite3.SQLITE_DENY
	}
	return sqlite3.SQLITE_OK
}

func (c *conn) ping(ctx context.Context) error {
	return c.with(ctx, false, func(d db) error {
		return d.each(ctx, "SELECT 1 FROM sqlite_schema LIMIT 1", nil, func([]driver.Value) error { return nil })
	})
}

// exec runs one statement and returns how many rows it changed.
func (d db) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	stmt, err := d.PrepareContext(ctx, sql)
	if err != nil {
		return 0, err
	}
	defer stmt.Close()
	return execute(ctx, stmt, args)
}

func execute(ctx context.Context, stmt driver.Stmt, args []any) (int64, error) {
	result, err := stmt.(driver.StmtExecContext).ExecContext(ctx, named(args))
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func named(args []any) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, a := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	return out
}

// each runs a query and calls f for each row; the row is only valid within f.
// errEnough from f ends the query without an error.
func (d db) each(ctx context.Context, sql string, args []any, f func(row []driver.Value) error) error {
	stmt, err := d.PrepareContext(ctx, sql)
	if err != nil {
		return err
	}
	defer stmt.Close()
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, named(args))
	if err != nil {
		return err
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		err := rows.Next(row)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(row)
		}
		if errors.Is(err, errEnough) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var errEnough = errors.New("no more rows are wanted")

// columns are the names and declared types of a query's columns.
func (d db) columns(ctx context.Context, sql string, args []any) (names, types []string, err error) {
	stmt, err := d.PrepareContext(ctx, sql)
	if err != nil {
		return nil, nil, err
	}
	defer stmt.Close()
	rows, err := stmt.(driver.StmtQueryContext).QueryContext(ctx, named(args))
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	names = rows.Columns()
	if len(names) == 0 {
		return nil, nil, fault.Of("E_QUERY").WithSource(name).WithCause("the statement returns no rows")
	}
	return names, rows.(*sqlite3.SQLiteRows).DeclTypes(), nil
}
