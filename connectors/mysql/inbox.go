package mysql

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/go-sql-driver/mysql"

	"ropeway/connectors/internal/sqldb"
	"ropeway/protocol/fault"
)

// An inbox builds the statements of the inbox protocol (DELIVERY §4), as
// sqldb.Inbox does for other systems. An index holds few bytes of a name, so
// that the end of a long one is its hash.
type inbox struct {
	table string // quoted
	page  string // as in the table
	step  string
}

// maxName is the longest name of a page in the inbox; with the step it fits an
// index of any row format.
const maxName = 700

func newInbox(database, page, step string) inbox {
	if len(page) > maxName {
		sum := sha256.Sum256([]byte(page))
		page = page[:maxName-72] + "/sha256:" + hex.EncodeToString(sum[:])
	}
	t := sqldb.Table{Schema: database, Name: sqldb.InboxName}
	return inbox{table: t.Quoted(sqldb.Backtick), page: page, step: step}
}

// script makes the table; it is also what an administrator runs where the
// account may not.
func (i inbox) script() string {
	return "CREATE TABLE IF NOT EXISTS " + i.table +
		" (page varchar(700) CHARACTER SET ascii COLLATE ascii_bin NOT NULL," +
		" step varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL," +
		" result longtext CHARACTER SET utf8mb4 NOT NULL, at datetime(6) NOT NULL," +
		" PRIMARY KEY (page, step)) ENGINE = InnoDB"
}

// insert is refused as a duplicate when the page is there.
func (i inbox) insert(result string) string {
	b := []byte("INSERT INTO " + i.table + " (page, step, result, at) VALUES (")
	b = append(appendQuoted(b, i.page), ',')
	b = append(appendQuoted(b, i.step), ',')
	return string(appendQuoted(b, result)) + ",UTC_TIMESTAMP(6))"
}

func (i inbox) where() string {
	b := append(appendQuoted([]byte(" WHERE page = "), i.page), " AND step = "...)
	return string(appendQuoted(b, i.step))
}

func (i inbox) result() string { return "SELECT result FROM " + i.table + i.where() }

// correct changes the answer: the one that was written first turned out to be
// too good.
func (i inbox) correct(result string) string {
	return string(appendQuoted([]byte("UPDATE "+i.table+" SET result = "), result)) + i.where()
}

// make makes the inbox table if the account may. Two that make it at once are
// both content.
func (i inbox) make(ctx context.Context, s *session) error {
	err := s.exec(ctx, i.script())
	if denied(err) {
		return i.notAllowed(err)
	}
	return err
}

func (i inbox) notAllowed(err error) *fault.Error {
	return sqldb.InboxNotAllowed(name, serverFault(errNumber(err), working).Cause, i.script())
}

// denied reports whether the account may not do it.
func denied(err error) bool {
	e := errNumber(err)
	return e != nil && (e.Number == 1142 || e.Number == 1044 || e.Number == 1143)
}

// errNumber is the server's error in a chain, or nil.
func errNumber(err error) *mysql.MySQLError {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e
	}
	return nil
}
