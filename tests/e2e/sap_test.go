package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ropeway/tests/rig"
	"ropeway/tests/testenv"
)

// landscape is a site with two agents: one before a MariaDB, one before SAP.
type landscape struct {
	*world
	server *testenv.MariaDB
	name   string
	erp    *sql.DB
	cap    *testenv.CAP
	front  *testenv.SAPFront
	sap    *rig.Process // the second agent
}

func newLandscape(t *testing.T) *landscape {
	t.Helper()
	l := &landscape{server: testenv.Maria(t), cap: testenv.SAP(t), world: &world{t: t}}
	l.front = testenv.NewSAPFront(t, l.cap)
	l.name = l.server.Database(t)
	var err error
	if l.erp, err = l.server.Open(l.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.erp.Close() })
	if l.Site, err = rig.NewSite(bins, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Site.Close)
	return l
}

func (l *landscape) manifests() string {
	ca := "      " + strings.ReplaceAll(strings.TrimSpace(l.server.CA), "\n", "\n      ")
	text := fmt.Sprintf(`kind: AgentGroup
name: plant-7
---
kind: AgentGroup
name: sap-zone
---
kind: Credential
name: erp-login
custody: vault
---
kind: Credential
name: sap-login
custody: vault
---
kind: Connection
name: erp
connector: mysql
agentGroup: plant-7
credential: erp-login
settings:
  host: %s
  port: %d
  database: %s
  ca: |
%s
`, l.server.Host, l.server.Port, l.name, ca)
	for version, root := range map[string]string{"v2": testenv.CAPRoot2, "v4": testenv.CAPRoot4} {
		text += fmt.Sprintf(`---
kind: Connection
name: sap-%[1]s
connector: sap-odata
agentGroup: sap-zone
credential: sap-login
settings: {url: "%[2]s", version: %[1]s, client: "100"}
concurrency: 2
---
kind: Flow
name: orders-to-sap-%[1]s
export: {connection: erp, table: orders_%[1]s, key: [id], pageSize: 150}
steps:
  - filter: record.status != "void"
  - map: {id: record.id, customer: record.customer, status: record.status, total: record.total, quantity: record.quantity, day: record.day, at: record.changed}
  - import: {connection: sap-%[1]s, table: Orders}
    name: post
---
kind: Flow
name: orders-from-sap-%[1]s
export: {connection: sap-%[1]s, table: Orders, columns: [id, customer, total, quantity, day], key: [id], where: [{column: customer, op: like, value: "%[1]s %%"}]}
steps:
  - import: {connection: erp, table: back, mode: upsert, key: [id]}
`, version, l.front.Origin+root)
	}
	return text
}

func (l *landscape) allowSAP(tables string) {
	target := strings.TrimPrefix(l.front.Origin, "http://")
	l.write("sap-policy.yaml", fmt.Sprintf(
		"rules:\n  - {name: orders, connector: sap-odata, target: \"%s\", allow: [export, import], tables: %s}\n", target, tables))
}

// start brings hub and both agents up; the second agent's policy names another
// entity set.
func (l *landscape) start() {
	l.t.Helper()
	ctx := l.context(2 * time.Minute)
	l.write("manifests/all.yaml", l.manifests())
	l.write("policy.yaml", fmt.Sprintf("rules:\n  - {name: erp, connector: mysql, target: \"%s:%d\", allow: [export, import]}\n",
		l.server.Host, l.server.Port))
	l.allowSAP(`{Items: "*"}`)
	l.must(l.StartHub(ctx))
	l.run("", "apply", "-f", l.Path("manifests"))
	login := func(user, password string) string {
		return fmt.Sprintf(`{"username":%q,"password":%q}`, user, password)
	}
	l.run(login(l.server.User, l.server.Password), "secret", "set", "erp-login", "--file", "-")
	l.run(login(l.cap.User, l.cap.Password), "secret", "set", "sap-login", "--file", "-")
	l.must(l.Enroll(ctx, "plant-7"))
	l.must(l.StartAgent(ctx, true))

	l.run("", "agent", "token", "--group", "sap-zone", "--out", l.Path("sap-token"))
	_, err := l.AgentAt(ctx, l.Path("sap-agent"), "enroll", "--name", "sap-agent", "--token-file", l.Path("sap-token"), "--hub", "https://"+l.Relay.Addr())
	l.must(err)
	l.sap, err = rig.Start("sap-agent", l.Path("sap-agent.log"), bins.Agent, nil,
		"run", "--state", l.Path("sap-agent"), "--policy", l.Path("sap-policy.yaml"))
	l.must(err)
	l.t.Cleanup(l.sap.Kill)
	_, err = l.sap.Ready(ctx, "ready")
	l.must(err)
}

// order asks CAP itself.
func (l *landscape) ask(path string) string {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.context(10*time.Second), http.MethodGet, l.cap.Origin+testenv.CAPRoot4+path, nil)
	l.must(err)
	r.SetBasicAuth(l.cap.User, l.cap.Password)
	r.Header.Set("Accept", "application/json;IEEE754Compatible=true")
	response, err := http.DefaultTransport.RoundTrip(r)
	l.must(err)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	l.must(err)
	return string(b)
}

// TestMariaDBToSAP: orders of a MariaDB behind one agent become orders in SAP
// behind another, in both versions of OData, while sessions end in the middle.
// The bad one is parked with SAP's own words, corrected, delivered, and
// everything is read back exactly.
func TestMariaDBToSAP(t *testing.T) {
	l := newLandscape(t)
	for i, version := range []string{"v2", "v4"} {
		l.sql(l.erp, `CREATE TABLE orders_`+version+` (id int PRIMARY KEY, customer varchar(40), status varchar(10), total decimal(15,4),
			quantity bigint, day date, changed datetime(3))`)
		l.sql(l.erp, fmt.Sprintf(`INSERT INTO orders_%s SELECT seq + %d, concat('%s %d O''Größe ', seq), if(seq %% 10 = 0, 'void', 'paid'),
			seq + 0.29, 9007199254740993 + seq, '2024-02-29', '2024-02-29 10:11:12.345' FROM seq_1_to_500`, version, i*1000, version, i))
		l.sql(l.erp, fmt.Sprintf(`UPDATE orders_%s SET status = 'nope' WHERE id = %d`, version, i*1000+77))
	}
	l.sql(l.erp, `CREATE TABLE back (id int PRIMARY KEY, customer varchar(40), total decimal(15,4), quantity bigint, day date)`)
	l.start()
	ctx := l.context(3 * time.Minute)

	// The site's policy knows another entity set only: exit 4 and the rule to add.
	out, err := l.Client(ctx, "", "flow", "run", "orders-to-sap-v4", "--wait", "-o", "json")
	l.refused(4, out, err)
	first := decode[rig.Job](t, out)
	if first.Cause == nil || first.Cause.Class != "policy" || !strings.Contains(first.Cause.Cause+first.Cause.Fix, "sap-odata") {
		t.Fatalf("denying policy: %+v %+v", first, first.Cause)
	}
	var batches atomic.Int32
	l.front.Answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "$batch") && batches.Add(1)%4 == 2 {
			l.front.Expire()
		}
		return false
	})
	l.allowSAP(`{Orders: "*"}`)
	ran, err := l.WaitJob(ctx, first.ID)
	l.must(err)
	l.checkDelivered(ctx, "v4", 1000, ran)

	out, err = l.Client(ctx, "", "flow", "run", "orders-to-sap-v2", "--wait", "-o", "json")
	l.refused(1, out, err) // completed_with_errors
	l.checkDelivered(ctx, "v2", 0, decode[rig.Job](t, out))
	if n := l.front.Counts(); n.Refused < 2 || n.Fetched < 3 {
		t.Errorf("no session ended in the middle: %+v", n)
	}

	for _, version := range []string{"v2", "v4"} {
		l.run("", "flow", "run", "orders-from-sap-"+version, "--wait", "-o", "json")
		if n := l.number(l.erp, fmt.Sprintf(`SELECT count(*) FROM back b JOIN orders_%s o USING (id, customer, total, quantity, day)`, version)); n != 450 {
			t.Errorf("%s: %d of 450 orders came back as they were", version, n)
		}
	}
}

// checkDelivered looks at a job of 500 orders, 50 void and one bad, corrects
// the bad one and waits for it.
func (l *landscape) checkDelivered(ctx context.Context, version string, offset int, ran rig.Job) {
	l.t.Helper()
	if ran.State != "completed_with_errors" || ran.Records.Exported != 500 || ran.Records.Filtered != 50 ||
		ran.Records.Parked != 1 || ran.Records.Delivered != 449 {
		l.t.Fatalf("%s: %+v\nagent:\n%s", version, ran, rig.Tail(l.Path("sap-agent.log"), 20))
	}
	type parked struct{ ID, Code, Class, Step, State string }
	list := decode[[]parked](l.t, l.run("", "error", "list", "--flow", "orders-to-sap-"+version, "-o", "json"))
	if len(list) != 1 || list[0].Class != "value" || list[0].Step != "post" {
		l.t.Fatalf("%s: error list: %+v", version, list)
	}
	shown := l.run("", "error", "show", list[0].ID, "-o", "json")
	for _, word := range []string{"ASSERT_ENUM", "allowed values", "status", "nope"} {
		if !strings.Contains(shown, word) {
			l.t.Errorf("%s: error show does not say %q: %s", version, word, shown)
		}
	}
	var customer string
	l.must(l.erp.QueryRow(fmt.Sprintf("SELECT customer FROM orders_%s WHERE id = %d", version, offset+77)).Scan(&customer))
	fixed, err := json.Marshal(map[string]any{"id": offset + 77, "customer": customer, "status": "paid", "total": json.Number("77.29"),
		"quantity": json.Number("9007199254741070"), "day": map[string]string{"$type": "date", "value": "2024-02-29"}})
	l.must(err)
	retried := decode[struct{ Job string }](l.t, l.run(string(fixed), "error", "edit", list[0].ID, "--file", "-", "-o", "json"))
	again, err := l.WaitJob(ctx, retried.Job)
	l.must(err)
	if again.State != "completed" || again.Records.Delivered != 1 {
		l.t.Errorf("%s: retry: %+v", version, again)
	}
	if one := l.ask(fmt.Sprintf("/Orders(%d)", offset+77)); !strings.Contains(one, `"paid"`) || !strings.Contains(one, "77.29") {
		l.t.Errorf("%s: the corrected order is not in SAP: %s", version, one)
	}
	if got := l.ask("/Orders/$count?$filter=startswith(customer,'" + version + "%20')"); got != "450" {
		l.t.Errorf("%s: SAP has %s orders, want 450", version, got)
	}
}
