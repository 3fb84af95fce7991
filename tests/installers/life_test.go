package installers

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"ropeway/tests/rig"
)

const client = `export ROPEWAY_URL=https://hub.example.com ROPEWAY_CA=/var/lib/ropeway-hub/ca.pem ROPEWAY_TOKEN_FILE=/var/lib/ropeway-hub/admin.token; `

// rows take longer than an upgrade.
const rows = 200000

// The target has no key and no unique index: what comes twice shows.
const manifests = `kind: AgentGroup
name: plant-7
---
kind: Connection
name: erp
connector: sqlite
agentGroup: plant-7
settings: {path: /srv/erp/erp.db}
---
kind: Connection
name: warehouse
connector: sqlite
agentGroup: plant-7
settings: {path: /srv/erp/warehouse.db}
---
kind: Flow
name: orders
export: {connection: erp, table: orders, key: [id], pageSize: 250}
steps:
  - import: {connection: warehouse, table: orders, mode: insert, key: [id]}
`

const policy = `rules:
  - {name: erp, connector: sqlite, target: /srv/erp/erp.db, allow: [export]}
  - {name: warehouse, connector: sqlite, target: /srv/erp/warehouse.db, allow: [import]}
`

// withHub boots a machine on which a hub runs from its package.
func withHub(t *testing.T, r release) *machine {
	t.Helper()
	m := boot(t)
	m.carry(r.deb("ropeway-hub"), r.deb("ropeway"), r.deb("ropeway-agent"))
	m.run("apt-get install -y ./ropeway-hub_*.deb ./ropeway_*.deb")
	m.run("sed -i 's/^names: .*/names: [hub.example.com]/' /etc/ropeway/hub.yaml && systemctl restart ropeway-hub")
	m.write("/root/manifests.yaml", manifests)
	m.run(client + "ropeway apply -f manifests.yaml")
	return m
}

// token puts a new enrollment token where the service looks for it.
func (m *machine) token() {
	m.t.Helper()
	m.run(client + "ropeway agent token --group plant-7 --out token && install -m 0600 token /etc/ropeway/enroll-token && rm token")
}

// open opens a database of the machine from outside.
func (m *machine) open(path string) *sql.DB {
	m.t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(m.root, path)+"?_journal_mode=WAL&_busy_timeout=10000")
	if err != nil {
		m.t.Fatal(err)
	}
	return db
}

// databases fills the source and makes an empty target.
func (m *machine) databases() {
	m.t.Helper()
	m.run("install -d -o ropeway-agent -g ropeway-agent /srv/erp")
	for path, queries := range map[string][]string{
		"/srv/erp/erp.db": {`CREATE TABLE orders (id INTEGER PRIMARY KEY, total NUMERIC, note TEXT)`,
			fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d)
				INSERT INTO orders SELECT i, i * 0.29, 'order ' || i FROM n`, rows)},
		"/srv/erp/warehouse.db": {`CREATE TABLE orders (id INTEGER, total NUMERIC, note TEXT)`},
	} {
		db := m.open(path)
		for _, q := range queries {
			if _, err := db.Exec(q); err != nil {
				m.t.Fatalf("%s: %v", q, err)
			}
		}
		if err := db.Close(); err != nil {
			m.t.Fatal(err)
		}
	}
	m.run("chown ropeway-agent: /srv/erp/*")
	m.run("mkdir -p /etc/systemd/system/ropeway-agent.service.d")
	m.write("/etc/systemd/system/ropeway-agent.service.d/files.conf", "[Service]\nBindPaths=/srv/erp\n")
	m.write("/etc/ropeway/policy.yaml", policy)
}

type job struct {
	ID      string
	State   string
	Records struct{ Exported, Delivered, Parked int }
	Cause   *struct{ Sentence, Fix string }
}

func (m *machine) job(id string) (j job) {
	m.t.Helper()
	out := m.run(client + "ropeway job show " + id + " -o json")
	if err := json.Unmarshal([]byte(out), &j); err != nil {
		m.t.Fatalf("%v in %s", err, out)
	}
	return j
}

// flowUnder starts the flow, disturbs it while it runs, and wants every row of the
// source in the target, once.
func (m *machine) flowUnder(disturb func()) {
	m.t.Helper()
	var j job
	if err := json.Unmarshal([]byte(m.run(client+"ropeway flow run orders -o json")), &j); err != nil {
		m.t.Fatal(err)
	}
	m.await("rows flow", time.Minute, func() bool { return m.job(j.ID).Records.Delivered > 0 })
	disturb()
	if now := m.job(j.ID); now.State == "completed" {
		m.t.Errorf("the flow had ended before it could be disturbed: %+v", now)
	}
	m.await("the flow ends", 2*time.Minute, func() bool { j = m.job(j.ID); return rig.Ended(j.State) })
	if j.State != "completed" || j.Records.Delivered != rows || j.Records.Parked != 0 {
		m.t.Fatalf("%+v %+v", j, j.Cause)
	}
	m.run("systemctl stop ropeway-agent") // both databases are closed
	defer m.run("systemctl start ropeway-agent")
	db := m.open("/srv/erp/warehouse.db")
	defer db.Close()
	var all, distinct, sum int
	if err := db.QueryRow(`SELECT count(*), count(DISTINCT id), sum(id) FROM orders`).Scan(&all, &distinct, &sum); err != nil {
		m.t.Fatal(err)
	}
	if all != rows || distinct != rows || sum != rows*(rows+1)/2 {
		m.t.Errorf("%d rows, %d different, sum %d: lost %d, doubled %d", all, distinct, sum, rows-distinct, all-distinct)
	}
	if _, err := db.Exec(`DELETE FROM orders`); err != nil {
		m.t.Error(err)
	}
	m.run("chown ropeway-agent: /srv/erp/*")
}

// TestLife is the life of an installed agent, with a flow running at every turn:
// install, enroll, kill -9, upgrade, remove, install again, purge.
func TestLife(t *testing.T) {
	first, second := packages(t, older), packages(t, newer)
	m := withHub(t, first)
	m.run("apt-get install -y ./ropeway-agent_*.deb")
	m.databases()
	m.token()
	m.run("systemctl daemon-reload && systemctl restart ropeway-agent")
	m.online("")
	identity := m.run("ropeway-agent identity -o json")
	m.says(m.run("stat -c '%a %U %F' /var/lib/ropeway-agent /var/lib/ropeway-agent/identity.pem /run/ropeway-agent/agent.sock"),
		"700 ropeway-agent directory", "600 ropeway-agent regular file", "600 ropeway-agent socket")

	m.exposure()

	m.flowUnder(func() {
		m.run("kill -9 $(systemctl show -P MainPID ropeway-agent)")
		m.await("systemd starts it again", 30*time.Second, func() bool { return m.property("ropeway-agent", "NRestarts") == "1" })
		m.run("kill -9 $(systemctl show -P MainPID ropeway-hub)")
		m.await("the hub is back", 30*time.Second, func() bool { _, err := m.try(client + "ropeway agent list"); return err == nil })
	})
	m.online("")

	// A change of the administrator is kept by the upgrade, and nothing asks about it.
	m.run("sed -i 's/^log: info/log: debug/' /etc/ropeway/agent.yaml")
	m.carry(second.deb("ropeway-agent"), second.deb("ropeway-hub"))
	m.flowUnder(func() {
		m.says(m.run("apt-get install -y ./ropeway-agent_1.1.0_amd64.deb </dev/null"), "Setting up ropeway-agent (1.1.0)")
		m.says(m.run("ropeway-agent version"), "v"+newer)
	})
	m.online("")
	m.says(m.run("grep ^log: /etc/ropeway/agent.yaml"), "debug")
	if m.run("ropeway-agent identity -o json") != identity {
		t.Error("the upgrade changed the identity")
	}
	m.says(m.run("ropeway-agent status -o json"), `"version": "v`+newer)
	m.run("apt-get install -y ./ropeway-hub_1.1.0_amd64.deb </dev/null")
	m.online("")
	m.interrupted(second)

	// Removed: the service is gone, what it owned is not. Installed again: as before.
	m.run("apt-get remove -y ropeway-agent")
	m.fails(3, "systemctl is-active ropeway-agent", "inactive")
	m.run("test -s /var/lib/ropeway-agent/identity.pem && test -s /var/lib/ropeway-agent/buffer.db && test -e /etc/ropeway/policy.yaml")
	m.run("apt-get install -y ./ropeway-agent_1.1.0_amd64.deb")
	m.online("")
	if m.run("ropeway-agent identity -o json") != identity {
		t.Error("a new installation over kept state has another identity")
	}

	m.run("apt-get purge -y ropeway-agent && rm -r /etc/systemd/system/ropeway-agent.service.d")
	m.wiped()
	m.run("apt-get purge -y ropeway-hub ropeway")
	m.run("test ! -e /var/lib/ropeway-hub && test ! -e /etc/ropeway && test ! -e /usr/bin/ropeway")
}

// exposure holds the units to what `systemd-analyze security` says of them.
func (m *machine) exposure() {
	m.t.Helper()
	m.run("systemd-analyze verify --recursive-errors=no /usr/lib/systemd/system/ropeway-*.service")
	overall := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for _, unit := range []string{"ropeway-agent", "ropeway-hub", "ropeway-agent@two"} {
		out := m.run("systemd-analyze security --no-pager " + unit + ".service")
		found := overall.FindStringSubmatch(out)
		if found == nil {
			m.t.Fatalf("no overall exposure in %s", out)
		}
		if level, err := strconv.ParseFloat(found[1], 64); err != nil || level > 2.0 {
			m.t.Errorf("%s has exposure %s, want at most 2.0\n%s", unit, found[1], out)
		} else {
			m.t.Logf("%s has exposure %s", unit, found[1])
		}
	}
	status := m.run("cat /proc/$(systemctl show -P MainPID ropeway-agent)/status")
	for _, line := range strings.Split(status, "\n") {
		if strings.HasPrefix(line, "Cap") && !strings.HasSuffix(line, "\t0000000000000000") {
			m.t.Errorf("the agent has a capability: %s", line)
		}
	}
	m.says(status, "NoNewPrivs:\t1", "Seccomp:\t2")
}

// interrupted is an upgrade that was cut off between unpacking and configuring.
func (m *machine) interrupted(r release) {
	m.t.Helper()
	m.run("dpkg --unpack ./" + filepath.Base(r.deb("ropeway-agent")))
	m.online("") // the old process goes on
	m.run("dpkg --configure -a")
	m.online("")
}
