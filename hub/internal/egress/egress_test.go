package egress

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ropeway/protocol/fault"
)

func TestCheckRefusesWhatMustNeverBeDialled(t *testing.T) {
	hub := netip.MustParseAddrPort("127.0.0.1:8443")
	open, closed := Rules{Private: true, Own: []netip.AddrPort{hub}}, Rules{Own: []netip.AddrPort{hub}}
	cases := []struct {
		address      string
		open, closed bool // allowed with and without Private
	}{
		{"127.0.0.1:5432", true, false},
		{"10.1.2.3:5432", true, false},
		{"192.168.1.1:80", true, false},
		{"100.64.0.1:80", true, false},
		{"[fd12::1]:80", true, false},
		{"[::ffff:10.0.0.1]:80", true, false},
		{"[::1]:80", true, false},
		{"[64:ff9b::7f00:1]:80", true, false},
		{"93.184.216.34:443", true, true},
		{"[2606:2800::1]:443", true, true},
		{"169.254.169.254:80", false, false},
		{"[::ffff:169.254.169.254]:80", false, false},
		{"[fd00:ec2::254]:80", false, false},
		{"[fe80::1%eth0]:80", false, false},
		{"224.0.0.1:80", false, false},
		{"0.0.0.0:80", false, false},
		{"127.0.0.1:8443", false, false},
		{"[::ffff:127.0.0.1]:8443", false, false},
		{"localhost:80", false, false},
		// the same places by another spelling
		{"[64:ff9b::a9fe:a9fe]:80", false, false},
		{"[64:ff9b:1::a9fe:a9fe]:80", false, false},
		{"[64:ff9b::7f00:1]:8443", false, false},
		{"[2002:a9fe:a9fe::1]:80", false, false},
		{"[2002:0a00:0001::1]:80", true, false},
		{"[::169.254.169.254]:80", false, false},
		{"[::10.0.0.1]:80", true, false},
		{"[64:ff9b::5db8:d822]:443", true, false},
		// other clouds
		{"100.100.100.200:80", false, false},
		{"168.63.129.16:80", false, false},
		{"192.0.0.192:80", false, false},
		{"[fd20:ce::254]:80", false, false},
		// no hosts
		{"0.1.2.3:80", false, false},
		{"255.255.255.255:80", false, false},
		{"240.0.0.1:80", false, false},
		{"198.18.0.1:80", true, false},
		{"[fec0::1]:80", true, false},
		{"/run/postgresql/.s.PGSQL.5432", false, false},
	}
	for _, c := range cases {
		if got := open.check(c.address) == nil; got != c.open {
			t.Errorf("private on: %s allowed = %v, want %v", c.address, got, c.open)
		}
		if got := closed.check(c.address) == nil; got != c.closed {
			t.Errorf("private off: %s allowed = %v, want %v", c.address, got, c.closed)
		}
	}
}

func TestDialChecksTheResolvedAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())

	if _, err := (Rules{}).Dial(context.Background(), "tcp", "localhost:"+port); fault.ClassOf(err) != "policy" {
		t.Fatalf("dial of a name that resolves to loopback: %v, want a policy fault", err)
	}
	conn, err := (Rules{Private: true}).Dial(context.Background(), "tcp", "localhost:"+port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestPathStaysInsideTheFolder(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for link, to := range map[string]string{
		"link": outside, "dangling": filepath.Join(outside, "later.db"), "device": "/dev/zero", "self": root,
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Rules{Files: root}
	for name, ok := range map[string]bool{
		"data.db": true, filepath.Join(root, "x.db"): true, "../x.db": false, "/etc/passwd": false,
		"link/x.db": false, filepath.Join(outside, "x.db"): false,
		"dangling": false, "device": false, "self": false, "self/data.db": true, "pipe": false, ".": false, "..": false,
		"": false, "a\x00b": false, "missing/x.db": false, root + "/../" + filepath.Base(root) + "x/y": false,
	} {
		if _, err := r.Path(name); (err == nil) != ok {
			t.Errorf("Path(%q) error = %v, want allowed %v", name, err, ok)
		}
	}
	_, err := Rules{Files: filepath.Join(root, "nowhere")}.Path("data.db")
	if fault.ClassOf(err) != "policy" || strings.Contains(err.Error(), root) {
		t.Errorf("a tenant whose folder is missing reads %v", err)
	}
	if _, err := (Rules{}).Path("data.db"); err == nil {
		t.Error("a tenant without a folder opened a file")
	}
}
