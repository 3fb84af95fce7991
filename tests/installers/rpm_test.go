package installers

import "testing"

// TestRPM is the life of the same packages under rpm, whose scripts are told other
// words. The machine is a Debian one (--nodeps: its packages are not rpm's).
func TestRPM(t *testing.T) {
	first, second := packages(t, older), packages(t, newer)
	m := boot(t)
	m.carry(first.rpm("ropeway-hub"), first.rpm("ropeway"), first.rpm("ropeway-agent"))
	m.run("rpm -i --nodeps *.rpm")
	m.fails(3, "systemctl is-active ropeway-agent", "inactive") // a service starts when its administrator says so
	m.run("sed -i 's/^names: .*/names: [hub.example.com]/' /etc/ropeway/hub.yaml && systemctl enable --now ropeway-hub")
	m.write("/root/manifests.yaml", manifests)
	m.run(client + "ropeway apply -f manifests.yaml")
	m.token()
	m.run("systemctl enable --now ropeway-agent")
	m.online("")
	identity := m.run("ropeway-agent identity -o json")

	m.run("echo 'log: debug' > /etc/ropeway/agent.yaml; rm *.rpm")
	m.carry(second.rpm("ropeway-hub"), second.rpm("ropeway"), second.rpm("ropeway-agent"))
	m.run("rpm -U --nodeps *.rpm")
	m.online("")
	m.says(m.run("ropeway-agent status -o json"), `"version": "v`+newer)
	m.says(m.run("systemctl is-enabled ropeway-agent; cat /etc/ropeway/agent.yaml"), "enabled", "log: debug")

	m.run("rpm -e ropeway-agent")
	m.fails(4, "systemctl status ropeway-agent", "could not be found")
	m.run("test -s /var/lib/ropeway-agent/identity.pem && test ! -e /usr/bin/ropeway-agent")
	m.run("rpm -i --nodeps ropeway-agent-*.rpm && systemctl enable --now ropeway-agent")
	m.online("")
	if m.run("ropeway-agent identity -o json") != identity {
		t.Error("a new installation over kept state has another identity")
	}
}
