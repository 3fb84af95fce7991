package security

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"ropeway/tests/rig"
)

const flows = `---
kind: Flow
name: copy
export: {connection: erp, table: orders, key: [id]}
steps:
  - map: {id: record.id, n: int(record.note)}
  - import: {connection: warehouse, table: copies, mode: insert}
---
kind: Flow
name: stream
export: {connection: erp, query: "SELECT id, note FROM orders"}
steps:
  - import: {connection: warehouse, table: copies, mode: insert}
`

// Promises S5 and S6 on one site at debug level: canaries in every field that is
// a secret and in the records; good runs, waiting pages, parked records and many
// kinds of failure; then a search through everything the programs left.
func TestS5_S6_NothingIsReadableAnywhere(t *testing.T) {
	s := newSite(t)
	canaries := map[string]string{
		"the right password":       s.pg.Password,
		"a wrong password":         "zQ7~wrong/na+ry=&1",
		"a site's wrong password":  "zQ7~site/na+ry=&2",
		"a password in settings":   "zQ7~setting/na+r=3",
		"a password in a manifest": "zQ7~manifest/na+r=4",
		"a password in bad JSON":   "zQ7~badjson/na+ry=5",
		"a guessed token":          "rwa1.zQ7guessedguessedguessed",
		"a token in the query":     "rwa1.zQ7queryqueryqueryquery",
		"a spoiled token":          "rwt1.zQ7spoiledspoiledspoiled",
	}
	records := map[string]string{"a record": "zQ8~record/na+ry=1", "a parked record": "zQ8~parked/na+ry=2"}
	s.sql(`CREATE TABLE orders (id int PRIMARY KEY, note text)`)
	s.sql(fmt.Sprintf(`INSERT INTO orders SELECT i, CASE WHEN i = 7 THEN '%s' ELSE '4711' END FROM generate_series(1, 500) i`, records["a parked record"]))
	s.sql(fmt.Sprintf(`UPDATE orders SET note = '%s' WHERE id = 8`, records["a record"]))

	s.must(s.Write("policy.yaml", s.policy()))
	s.must(s.Write("manifests.yaml", `kind: AgentGroup
name: plant
---
{kind: Credential, name: login, custody: vault}
---
{kind: Credential, name: wrong, custody: vault}
---
{kind: Credential, name: site, custody: site}
`+s.connection("erp", "login", "plant", 0)+s.connection("warehouse", "login", "", 1)+s.connection("wrong-here", "wrong", "", 1)+
		s.connection("wrong-there", "wrong", "plant", 0)+s.connection("site-there", "site", "plant", 0)+flows))
	s.must(s.StartHub(s.context()))
	s.run(false, "", "apply", "-f", s.Path("manifests.yaml"))
	s.run(false, fmt.Sprintf(`{"username":%q,"password":%q}`, s.pg.User, s.pg.Password), "secret", "set", "login", "--file", "-")
	s.run(false, fmt.Sprintf(`{"username":%q,"password":%q}`, s.pg.User, canaries["a wrong password"]), "secret", "set", "wrong", "--file", "-")
	s.must(s.Enroll(s.context(), "plant"))
	s.agent(false, fmt.Sprintf(`{"username":%q,"password":%q}`, s.pg.User, canaries["a site's wrong password"]), "credentials", "set", "site", "--file", "-")
	s.must(s.StartAgent(s.context(), true))
	enrolled, err := os.ReadFile(s.Path("token"))
	s.must(err)
	canaries["the enrollment token"] = strings.TrimSpace(string(enrolled))
	canaries["the administrator's token"] = s.token()
	// made over the local socket; shown once, to whoever asked
	canaries["a second administrator's token"] = strings.TrimSpace(s.localAdmin())

	s.failures(canaries)
	s.run(false, "", "connection", "pause", "warehouse")
	var jobs []string
	for _, flow := range []string{"copy", "stream"} {
		id, err := s.RunFlow(s.context(), flow)
		s.must(err)
		jobs = append(jobs, id)
	}
	s.eventually("pages that wait", func() bool {
		out := s.run(false, "", "connection", "queue", "warehouse", "-o", "json")
		var q struct{ Queued int }
		return json.Unmarshal([]byte(out), &q) == nil && q.Queued >= 2
	})
	s.agent(false, "", "buffer", "status", "-o", "json")
	for _, args := range [][]string{{"error", "list", "-o", "json"}, {"audit", "list"}, {"audit", "verify"}, {"get", "connection", "-o", "json"},
		{"get", "credential", "-o", "json"}, {"secret", "list"}, {"agent", "list", "-o", "json"}, {"job", "list", "-o", "json"}, {"job", "show", jobs[0], "-o", "json"}} {
		s.run(false, "", args...)
	}

	h := haystack{"what the commands said": []byte(s.heard.String())}
	h.files(t, s.Data, "admin.token")
	h.files(t, s.Path("agent"))
	for _, name := range []string{"hub.log", "agent.log"} {
		h.files(t, s.Path(name))
	}
	for _, p := range []*rig.Process{s.Hub, s.Agent} {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID(), file))
			s.must(err)
			h[fmt.Sprintf("/proc/%d/%s", p.PID(), file)] = text
		}
	}
	plain := &http.Client{}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		h.get(t, plain, "http://"+s.Ops+path, "")
	}
	client := s.client()
	for _, path := range []string{"secrets", "credentials", "connections", "flows", "agents", "jobs", "audit", "agent-groups", "jobs/" + jobs[0]} {
		h.get(t, client, "https://"+s.Listen+"/api/v1/"+path, s.token())
	}
	t.Run("S5 secrets", func(t *testing.T) { h.clean(t, canaries) })
	// The commands ran for an administrator, who may see the records.
	delete(h, "what the commands said")
	t.Run("S6 records", func(t *testing.T) { h.clean(t, records) })
	t.Run("S6 swapped ciphertext", func(t *testing.T) { s.swap(t) })
	t.Run("rights of files", func(t *testing.T) { s.rights(t) })
	t.Run("S4 revoked elsewhere", func(t *testing.T) { s.revokeElsewhere(t) })
}

// revokeElsewhere revokes the agent in the database, as another replica would:
// its tunnel ends within ten seconds.
func (s *site) revokeElsewhere(t *testing.T) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.Data, "hub.db")+"?_busy_timeout=10000")
	s.must(err)
	defer db.Close()
	began := time.Now()
	_, err = db.Exec(`UPDATE agents SET state = 'revoked', revoked = 1`)
	s.must(err)
	s.eventually("the end of the tunnel", func() bool {
		return !strings.Contains(s.agent(false, "", "status", "-o", "json"), `"state": "online"`)
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// localAdmin makes one more administrator.
func (s *site) localAdmin() string {
	s.t.Helper()
	admin := *s.Site
	admin.Bins.Client = s.Bins.Hub
	out, err := admin.Client(s.context(), "", "admin", "create", "--data", s.Data)
	s.must(err)
	return out
}

// failures makes whatever knows a secret fail.
func (s *site) failures(canaries map[string]string) {
	s.t.Helper()
	for _, connection := range []string{"wrong-here", "wrong-there", "site-there"} {
		s.run(true, "", "connection", "ping", connection)
	}
	bad := map[string]string{
		"password.yaml": "kind: Connection\nname: x\nconnector: postgres\nsettings: {host: h, database: d, password: \"" + canaries["a password in settings"] + "\"}\n",
		"port.yaml":     "kind: Connection\nname: x\nconnector: postgres\nsettings: {host: h, database: d, tls: \"" + canaries["a password in settings"] + "\"}\n",
		"cred.yaml":     "kind: Credential\nname: x\ncustody: vault\npassword: \"" + canaries["a password in a manifest"] + "\"\n",
		"fields.yaml":   "kind: Credential\nname: x\ncustody: vault\nfields: {password: \"" + canaries["a password in a manifest"] + "\"}\n",
		"broken.yaml":   "kind: Credential\nname: x\npassword: [\"" + canaries["a password in a manifest"] + "\"\n",
	}
	for name, text := range bad {
		s.must(s.Write("bad/"+name, text))
		s.run(true, "", "apply", "-f", s.Path("bad", name))
	}
	for _, text := range []string{`{"password": "` + canaries["a password in bad JSON"] + `"`, `{"password": {"a": "` + canaries["a password in bad JSON"] + `"}}`,
		`["` + canaries["a password in bad JSON"] + `"]`, `"` + canaries["a password in bad JSON"] + `"`} {
		s.run(true, text, "secret", "set", "login", "--file", "-")
		s.agent(true, text, "credentials", "set", "other", "--file", "-")
	}
	s.must(s.Write("spoiled", canaries["a spoiled token"]))
	out, err := s.AgentAt(s.context(), s.Path("nobody"), "enroll", "--token-file", s.Path("spoiled"), "--hub", "https://"+s.Listen)
	s.said(true, out, err)
	h, client := haystack{}, s.client()
	h.get(s.t, client, "https://"+s.Listen+"/api/v1/me", canaries["a guessed token"])
	h.get(s.t, client, "https://"+s.Listen+"/api/v1/me?token="+canaries["a token in the query"], "")
	for _, text := range h {
		s.heard.Write(text)
	}
}

// swap exchanges the sealed contents of two parked records in the database: each
// is refused, neither shows the other's.
func (s *site) swap(t *testing.T) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.Data, "hub.db")+"?_busy_timeout=10000")
	s.must(err)
	defer db.Close()
	var list []parkedRow
	rows, err := db.Query(`SELECT id, record, detail FROM parked ORDER BY id LIMIT 2`)
	s.must(err)
	for rows.Next() {
		var p parkedRow
		s.must(rows.Scan(&p.id, &p.record, &p.detail))
		list = append(list, p)
	}
	s.must(rows.Close())
	if len(list) < 2 {
		t.Fatalf("%d parked records", len(list))
	}
	if out := s.run(false, "", "error", "show", list[0].id, "-o", "json"); !strings.Contains(out, "zQ8~") {
		t.Errorf("before, the record is not shown: %s", out)
	}
	for i, p := range list {
		other := list[1-i]
		_, err = db.Exec(`UPDATE parked SET record = ?, detail = ? WHERE id = ?`, other.record, other.detail, p.id)
		s.must(err)
	}
	for _, p := range list {
		before := s.heard.Len()
		s.run(true, "", "error", "show", p.id, "-o", "json")
		if said := s.heard.String()[before:]; strings.Contains(said, "zQ8~") || !strings.Contains(said, "E_CHECKSUM") {
			t.Errorf("a swapped record: %s", said)
		}
	}
}

type parkedRow struct {
	id             string
	record, detail []byte
}

// rights looks at every file and folder the programs made under a umask of 0.
func (s *site) rights(t *testing.T) {
	n := 0
	for _, root := range []string{s.Data, s.Path("agent"), s.Path("token")} {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			n++
			mode, want := info.Mode().Perm(), os.FileMode(0o600)
			switch {
			case d.IsDir():
				want = 0o700
			case filepath.Base(p) == "ca.pem":
				want = 0o644
			}
			if mode&^want != 0 {
				t.Errorf("%s has mode %04o, want at most %04o", strings.TrimPrefix(p, s.Dir), mode, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 20 {
		t.Errorf("only %d files and folders", n)
	}
}
