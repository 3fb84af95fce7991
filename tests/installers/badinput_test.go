package installers

import (
	"strings"
	"testing"
	"time"
)

// TestNotEnrolled: a service that cannot enroll says why and what to do, does not
// end, does not fill the journal, and goes on by itself once it can.
func TestNotEnrolled(t *testing.T) {
	m := withHub(t, packages(t, older))
	m.run("apt-get install -y ./ropeway-agent_*.deb")
	m.waits("E_NOT_ENROLLED", "put a token from the hub into /etc/ropeway/enroll-token")
	m.fails(3, "ropeway-agent drain --instance nobody", "E_AGENT_DOWN")

	for name, text := range map[string]string{"wrong": "hello", "cut": "rwt1.eyJodWIiOiJodHRwczov", "binary": "\x00\xff"} {
		t.Log(name)
		m.write("/etc/ropeway/enroll-token", text)
		m.run("systemctl restart ropeway-agent")
		m.waits("E_TOKEN_INVALID", "put a token")
	}

	m.token()
	m.run("systemctl stop ropeway-hub; systemctl restart ropeway-agent")
	m.waits("E_UNREACHABLE", "")
	m.run("systemctl start ropeway-hub")
	m.online("") // without a hand on the agent

	// A token works once: another machine, or this one after its state is gone.
	m.run("systemctl stop ropeway-agent; rm -r /var/lib/ropeway-agent/*; systemctl start ropeway-agent")
	m.waits("E_TOKEN_USED", "put a token")
	if out := m.run("journalctl -u ropeway-agent ropeway-hub --no-pager; ls -R /etc/ropeway"); strings.Contains(out, "rwt1.") {
		t.Error("a token is in the journal")
	}

	// Enrolled by hand as root: the files are the service's, which notices.
	m.run("rm /etc/ropeway/enroll-token; systemctl restart ropeway-agent")
	m.run(client + "ropeway agent token --group plant-7 --out token; ropeway-agent enroll --token-file token")
	m.online("")
	m.says(m.run("stat -c %U /var/lib/ropeway-agent/identity.pem"), "ropeway-agent")

	// Root keeps a secret of the site while the agent runs: it is the service's too.
	m.run(`echo '{"username":"erp","password":"x"}' > secret; ropeway-agent credentials set erp-site --file secret`)
	m.says(m.run("stat -c %U /var/lib/ropeway-agent/credentials.sealed"), "ropeway-agent")
}

// waits wants a running, quiet service that says why it is not enrolled.
func (m *machine) waits(code, next string) {
	m.t.Helper()
	m.await("the agent waits with "+code, 90*time.Second, func() bool {
		out, _ := m.try("ropeway-agent status -o json")
		return strings.Contains(out, code) && strings.Contains(out, next) && strings.Contains(out, `"state": "pending"`)
	})
	m.says(m.run("systemctl --no-pager status ropeway-agent"), "active (running)", "not enrolled")
	if n := m.property("ropeway-agent", "NRestarts"); n != "0" {
		m.t.Errorf("it was started again %s times", n)
	}
}

// TestWrongRights: systemd gives the state directory back to the service; a wrong
// configuration ends it once, with the line.
func TestWrongRights(t *testing.T) {
	m := withHub(t, packages(t, older))
	m.run("apt-get install -y ./ropeway-agent_*.deb")
	m.token()
	m.run("systemctl restart ropeway-agent")
	m.online("")
	m.run("systemctl stop ropeway-agent; chmod 777 /var/lib/ropeway-agent; chown -R root:root /var/lib/ropeway-agent; systemctl start ropeway-agent")
	m.online("")
	m.says(m.run("stat -c '%a %U' /var/lib/ropeway-agent"), "700 ropeway-agent")

	m.run("echo 'polcy: x' >> /etc/ropeway/agent.yaml; systemctl restart ropeway-agent || true")
	m.await("it has failed", 20*time.Second, func() bool { return m.property("ropeway-agent", "ActiveState") == "failed" })
	m.says(m.run("journalctl -u ropeway-agent --no-pager -n 20"), "unknown key polcy")
	if n := m.property("ropeway-agent", "NRestarts"); n != "0" {
		t.Errorf("a wrong configuration was tried again %s times", n)
	}
}

// TestWatchdog: a process that hangs is ended and started again.
func TestWatchdog(t *testing.T) {
	m := withHub(t, packages(t, older))
	m.run("apt-get install -y ./ropeway-agent_*.deb")
	m.run("mkdir -p /etc/systemd/system/ropeway-agent.service.d")
	m.write("/etc/systemd/system/ropeway-agent.service.d/soon.conf", "[Service]\nWatchdogSec=3\n")
	m.token()
	m.run("systemctl daemon-reload; systemctl restart ropeway-agent")
	m.online("")
	m.run("kill -STOP $(systemctl show -P MainPID ropeway-agent)")
	m.await("systemd starts it again", 40*time.Second, func() bool { return m.property("ropeway-agent", "NRestarts") == "1" })
	m.online("")
}
