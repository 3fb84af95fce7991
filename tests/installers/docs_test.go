package installers

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

var fence = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// TestInstallPage pastes every block of docs/install-linux.md, in order, into one
// machine, with the packages where a reader would have put them.
func TestInstallPage(t *testing.T) {
	m := boot(t)
	first, second := packages(t, older), packages(t, newer)
	text, err := os.ReadFile("../../docs/install-linux.md")
	if err != nil {
		t.Fatal(err)
	}
	m.carry(first.deb("ropeway-hub"), first.deb("ropeway"), first.deb("ropeway-agent"))

	// What the reader's shell remembers from block to block, and what is true after
	// the block that begins so.
	const memory = `export ROPEWAY_URL=https://hub.example.com ROPEWAY_CA=/var/lib/ropeway-hub/ca.pem ROPEWAY_TOKEN_FILE=/var/lib/ropeway-hub/admin.token; `
	before := map[string]func(){
		"apt-get install -y ./ropeway-agent_*_amd64.deb\nropeway-agent version": func() {
			m.run("rm *.deb")
			m.carry(second.deb("ropeway-agent"))
		},
		"rpm -i": func() {
			m.run(memory + "ropeway agent token --group plant-7 --out token-rpm")
			m.carry(second.rpm("ropeway-agent"))
		},
	}
	after := map[string]func(out string){
		"apt-get install -y ./ropeway-hub": func(string) { m.run("systemctl is-active ropeway-hub; test $(stat -c %a token || true)x = x") },
		"apt-get install -y ./ropeway-agent_*_amd64.deb\ninstall": func(string) {
			m.online("")
			m.says(m.run("stat -c '%a %U' /etc/ropeway/enroll-token"), "600 root")
		},
		"systemctl --no-pager status": func(out string) { m.says(out, "active (running)", "plant-7", "online") },
		"cp /usr/share/doc":           func(out string) { m.says(out, "loaded", "rules   1") },
		"install -d": func(string) {
			m.online("")
			m.says(m.run("nsenter -t $(systemctl show -P MainPID ropeway-agent) -m ls /srv/erp; echo ok"), "ok")
		},
		"ropeway agent token --group plant-7 --out token-two": func(string) {
			m.online("--instance two")
			m.apart()
		},
		"apt-get install -y ./ropeway-agent_*_amd64.deb\nropeway-agent version": func(out string) {
			m.says(out, "ropeway-agent v"+newer)
			m.online("")
			m.online("--instance two")
		},
		"systemctl disable": func(string) { m.wiped() },
		"rpm -i":            func(string) { m.online("") },
	}
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		script := block[2]
		if block[1] != "sh" {
			t.Errorf("a block in %s is not run", block[1])
			continue
		}
		do(before, script, func(f func()) { f() })
		out := m.run("set -e\n" + memory + "\n" + strings.ReplaceAll(script, "rpm -i ", "rpm -i --nodeps "))
		do(after, script, func(f func(string)) { f(out) })
	}
	if len(before)+len(after) > 0 {
		t.Errorf("the page has changed: %d preparations and %d checks were not used", len(before), len(after))
	}
}

// do calls and forgets the entry whose key the script begins with.
func do[F any](table map[string]F, script string, call func(F)) {
	for key, f := range table {
		if strings.HasPrefix(script, key) {
			delete(table, key)
			call(f)
			return
		}
	}
}

// apart wants that two instances do not see each other's state.
func (m *machine) apart() {
	m.t.Helper()
	for unit, own := range map[string]string{"ropeway-agent": "ropeway-agent", "ropeway-agent@two": "ropeway-agent-two"} {
		seen := strings.Fields(m.run("nsenter -t $(systemctl show -P MainPID " + unit + ") -m ls /var/lib"))
		if len(seen) != 1 || seen[0] != own {
			m.t.Errorf("%s sees of /var/lib: %v", unit, seen)
		}
	}
}

// wiped wants that nothing of the agent is left but its account.
func (m *machine) wiped() {
	m.t.Helper()
	left := m.run("ls -d /var/lib/ropeway-agent* /run/ropeway-agent* /usr/bin/ropeway-agent /usr/share/doc/ropeway-agent " +
		"/etc/systemd/system/*/ropeway-agent* /usr/lib/systemd/system/ropeway-agent* 2>/dev/null; ls /etc/ropeway; true")
	if left != "hub.yaml\n" {
		m.t.Errorf("left after purge: %s", left)
	}
	m.run("getent passwd ropeway-agent")
}
