package postgres

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// learnTypes finds out the names of the columns' types that are read as text.
// It reports through s.relearned that it ran a statement.
func (s *session) learnTypes(ctx context.Context, fields []pgconn.FieldDescription) error {
	var unknown []string
	for _, f := range fields {
		if _, known := s.types[f.DataTypeOID]; !known && readerOf(f.DataTypeOID) == nil {
			unknown = append(unknown, strconv.FormatUint(uint64(f.DataTypeOID), 10))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	s.relearned = true
	rows, err := s.query(ctx, "SELECT oid, format_type(oid, NULL) FROM pg_catalog.pg_type "+
		"WHERE oid = ANY ($1::oid[])", "{"+strings.Join(unknown, ",")+"}")
	if err != nil {
		return err
	}
	for _, row := range rows {
		oid, err := strconv.ParseUint(string(row[0]), 10, 32)
		if err != nil {
			return badWire("type", row[0])
		}
		s.types[uint32(oid)] = kind{name: string(row[1])}
	}
	for _, text := range unknown { // dropped in the meantime
		oid, _ := strconv.ParseUint(text, 10, 32)
		if _, known := s.types[uint32(oid)]; !known {
			s.types[uint32(oid)] = kind{name: "oid " + text}
		}
	}
	return nil
}

// cut closes the connection without a word: its state is in doubt.
func (s *session) cut() {
	s.pg.Conn().Close()
	s.End()
}
