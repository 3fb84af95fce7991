package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/request"
	"ropeway/protocol/page"
	"ropeway/tests/testenv"
)

func TestSmoke(t *testing.T) {
	pg := testenv.Postgres(t)
	db := pg.Database(t)
	err := pg.Exec(t.Context(), db, `CREATE TABLE src AS SELECT i::int8 AS id, 'name '||i AS name, (i*1.5)::numeric(12,2) total, now() at, i%2=0 flag FROM generate_series(1,12345) i; ALTER TABLE src ADD PRIMARY KEY (id);
	CREATE TABLE dst (id int4, name text, total numeric(12,2), at timestamptz, flag bool)`)
	if err != nil {
		t.Fatal(err)
	}
	ty := Type()
	s, err := ty.Settings.Validate(map[string]any{"host": pg.Host, "port": pg.Port, "database": db, "tls": "disable"})
	if err != nil {
		t.Fatal(err)
	}
	env := connectors.Env{Dial: (&net.Dialer{}).DialContext, Clock: time.Now, Log: slog.Default(),
		Secret: func(context.Context) (map[string]string, error) {
			return map[string]string{"username": pg.User, "password": pg.Password}, nil
		}}
	c, err := ty.Open(t.Context(), env, s)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := ty.Ping(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	r := request.Read{Type: ty, Conn: c, Query: connectors.Query{SQL: "select * from src", Key: []string{"id"}}, Header: page.Header{Chain: page.Chain{Job: page.NewID(), Step: "export"}}, Epoch: page.NewEpoch()}
	im := request.Import{Type: ty, Conn: c, Spec: connectors.ImportSpec{Table: "dst"}, Step: "load"}
	for {
		end, err := r.Run(t.Context(), func(ctx context.Context, p *page.Page) error {
			fmt.Println(p.Header.Seq, p.Header.Records, p.Header.PayloadSize, p.Header.Last, len(p.Payload))
			a, err := im.Run(ctx, p)
			fmt.Printf("%+v %v\n", a, err)
			a, err = im.Run(ctx, p)
			fmt.Printf("%+v %v\n", a, err)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if end.Exhausted {
			break
		}
		r.Cursor, r.Seq, r.Prev, r.Pages, r.Records = end.Cursor, end.Seq, end.Prev, end.Pages, end.Records
	}
}
