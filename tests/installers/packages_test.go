package installers

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ropeway/hub"
)

// The two versions that are built: what is installed, and what it is upgraded to.
const (
	older = "1.0.0"
	newer = "1.1.0"
)

// release is one version of the programs and their packages.
type release struct{ version, bin, dist string }

var built struct {
	sync.Mutex
	dir string
	all map[string]release
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// packages builds a version once for all tests, as `make packages` does.
func packages(t *testing.T, version string) release {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if r, ok := built.all[version]; ok {
		return r
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "ropeway-packages-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.all = dir, map[string]release{}
	}
	r := release{version, filepath.Join(built.dir, version, "bin"), filepath.Join(built.dir, version, "dist")}
	command(t, "go", "build", "-trimpath", "-tags", "netgo,osusergo,sqlite_omit_load_extension",
		"-ldflags", "-s -w -X ropeway/protocol/control.Version=v"+version+" -extldflags '-static'", "-o", r.bin+"/",
		"ropeway/hub/cmd/ropeway-hub", "ropeway/hub/cmd/ropeway", "ropeway/agent/cmd/ropeway-agent")
	command(t, "../../installers/linux/build.sh", "v"+version, r.bin, r.dist)
	built.all[version] = r
	return r
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (r release) deb(name string) string {
	return filepath.Join(r.dist, name+"_"+r.version+"_amd64.deb")
}

func (r release) rpm(name string) string {
	return filepath.Join(r.dist, name+"-"+r.version+"-1.x86_64.rpm")
}

// TestStatic: the programs use no library of the machine.
func TestStatic(t *testing.T) {
	allowed(t)
	r := packages(t, older)
	for _, name := range []string{"ropeway", "ropeway-hub", "ropeway-agent"} {
		f, err := elf.Open(filepath.Join(r.bin, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if libs, _ := f.ImportedLibraries(); len(libs) > 0 {
			t.Errorf("%s needs %v", name, libs)
		}
		symbols, _ := f.DynamicSymbols()
		for _, s := range symbols {
			if strings.HasPrefix(s.Version, "GLIBC") {
				t.Errorf("%s needs %s of %s", name, s.Name, s.Version)
			}
		}
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP {
				t.Errorf("%s needs a loader", name)
			}
		}
	}
}

func TestPackageContents(t *testing.T) {
	allowed(t)
	r := packages(t, older)
	want := map[string][]string{
		"ropeway": {"/usr/bin/ropeway"},
		"ropeway-hub": {"/usr/bin/ropeway-hub", "/usr/lib/systemd/system/ropeway-hub.service", "/etc/ropeway/hub.yaml",
			"/usr/share/doc/ropeway-hub/install-linux.md"},
		"ropeway-agent": {"/usr/bin/ropeway-agent", "/usr/lib/systemd/system/ropeway-agent.service",
			"/usr/lib/systemd/system/ropeway-agent@.service", "/etc/ropeway/agent.yaml",
			"/usr/share/doc/ropeway-agent/policy.example.yaml"},
	}
	for name, files := range want {
		deb, rpm := command(t, "dpkg-deb", "-c", r.deb(name)), command(t, "rpm", "-qpl", r.rpm(name))
		for _, f := range files {
			if !strings.Contains(deb, " ."+f+"\n") || !strings.Contains(rpm, f+"\n") {
				t.Errorf("%s has no %s\n%s\n%s", name, f, deb, rpm)
			}
		}
		for _, line := range strings.Split(strings.TrimSpace(deb), "\n") {
			if mode := strings.Fields(line)[0]; mode[5] == 'w' || mode[8] == 'w' || mode[3] == 's' {
				t.Errorf("%s: %s", name, line)
			}
		}
		info := command(t, "rpm", "-qp", "--qf", "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{LICENSE}\n", r.rpm(name))
		if info != fmt.Sprintf("%s %s 1 x86_64 Apache-2.0\n", name, older) {
			t.Errorf("rpm says %s", info)
		}
	}
	if out := command(t, "rpm", "-qp", "--configfiles", r.rpm("ropeway-agent")); out != "/etc/ropeway/agent.yaml\n" {
		t.Errorf("configuration files of the rpm: %s", out)
	}
	if out := command(t, "rpm", "-qp", "--scripts", r.rpm("ropeway-agent")); strings.Contains(out, "@NAME@") || strings.Contains(out, "@PURGE@") {
		t.Error("a script of the rpm was not filled in")
	}
}

// TestVersions: packages of a later commit sort after those of an earlier one.
func TestVersions(t *testing.T) {
	allowed(t)
	bin, dist := t.TempDir(), t.TempDir()
	for _, name := range []string{"ropeway", "ropeway-hub", "ropeway-agent"} { // what is inside does not matter here
		if err := os.WriteFile(filepath.Join(bin, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	rising := []string{"0a1b2c3-dirty", "v1.0.0-rc.1", "v1.0.0", "v1.0.0-3-gabc1234", "v1.0.1"}
	last := ""
	for _, v := range rising {
		command(t, "../../installers/linux/build.sh", v, bin, filepath.Join(dist, v))
		debs, _ := filepath.Glob(filepath.Join(dist, v, "ropeway_*.deb"))
		if len(debs) != 1 {
			t.Fatalf("%s: %v", v, debs)
		}
		version := strings.TrimSpace(command(t, "dpkg-deb", "-f", debs[0], "Version"))
		if last != "" {
			command(t, "dpkg", "--compare-versions", last, "lt", version)
		}
		last = version
	}
}

// TestSameBytes: the same programs and commit give the same packages.
func TestSameBytes(t *testing.T) {
	allowed(t)
	r, again := packages(t, older), t.TempDir()
	command(t, "../../installers/linux/build.sh", "v"+older, r.bin, again)
	for _, path := range []string{r.deb("ropeway-agent"), r.rpm("ropeway-agent"), r.deb("ropeway-hub"), r.rpm("ropeway-hub")} {
		a, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(again, filepath.Base(path)))
		if err != nil || string(a) != string(b) {
			t.Errorf("%s differs: %v", filepath.Base(path), err)
		}
	}
}

// TestPackagedHubConfig needs no machine: the packaged file is one the hub takes.
func TestPackagedHubConfig(t *testing.T) {
	c, err := hub.ReadConfig("../../installers/linux/hub/hub.yaml", nil)
	if err == nil {
		err = c.Validate()
	}
	if err != nil || c.Data != "/var/lib/ropeway-hub" || c.Listen != "0.0.0.0:443" {
		t.Errorf("%+v %v", c, err)
	}
}
