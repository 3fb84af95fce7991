package testenv

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A CAP is a running CAP server, SAP's own framework for OData services, with
// the model of cap/srv. Its data is in memory. It has no CSRF tokens: SAPFront
// stands before it for those.
type CAP struct {
	Origin   string // http://127.0.0.1:port
	User     string
	Password string

	server *process
}

// The service roots of both versions, below an origin.
const (
	CAPRoot4 = "/odata/v4/plant"
	CAPRoot2 = "/odata/v2/plant"
)

//go:embed cap/package.json cap/package-lock.json cap/server.js cap/srv
var capSources embed.FS

var sharedCAP struct {
	once sync.Once
	cap  *CAP
	err  error
}

// SAP returns the CAP server that all tests of this binary share, starting it
// at the first call. Where none can be started it skips the test and says why.
func SAP(t testing.TB) *CAP {
	t.Helper()
	sharedCAP.once.Do(func() { sharedCAP.cap, sharedCAP.err = startSharedCAP() })
	if sharedCAP.err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("start CAP: %v", sharedCAP.err)
		}
		t.Skipf("skipped: needs SAP's CAP server: %v", sharedCAP.err)
	}
	return sharedCAP.cap
}

func startSharedCAP() (*CAP, error) {
	dir, err := os.MkdirTemp("", "ropeway-cap-")
	if err != nil {
		return nil, err
	}
	c, err := StartCAP(context.Background(), dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return c, c.server.sweepAfterDeath(dir)
}

// StartCAP runs a server with its files in dir until Stop, until ctx ends or
// until this process dies.
func StartCAP(ctx context.Context, dir string) (*CAP, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("node is not installed (20 or later)")
	}
	modules, err := capModules()
	if err != nil {
		return nil, err
	}
	if err := writeCAP(dir); err != nil {
		return nil, err
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		return nil, err
	}
	c := &CAP{User: "erp", Password: "wonderland"}
	c.server, err = startProcess(ctx, account{home: dir, uid: -1, gid: -1}, filepath.Join(dir, "server.log"),
		node, filepath.Join(modules, ".bin", "cds-serve"), "--port", "0")
	if err != nil {
		return nil, err
	}
	if err := c.waitReady(ctx); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

// Stop ends the server at once and waits for it.
func (c *CAP) Stop() { c.server.stop() }

// writeCAP puts the embedded files into dir.
func writeCAP(dir string) error {
	return fs.WalkDir(capSources, "cap", func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, strings.TrimPrefix(path, "cap"))
		if err != nil || d.IsDir() {
			return errors.Join(err, os.MkdirAll(to, 0o755))
		}
		b, err := capSources.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	})
}

// capModules returns the folder of the npm packages. It is kept in the user's
// cache under the hash of what asks for them; npm fills it when it may
// (CI=true or RW_INSTALL=1), which takes about two minutes.
func capModules() (string, error) {
	sum, err := hashEmbedded(capSources, "cap/package.json", "cap/package-lock.json")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "ropeway", "cap-"+sum)
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if os.Getenv("CI") != "true" && os.Getenv("RW_INSTALL") != "1" {
		return "", errors.New("its npm packages are not installed yet (RW_INSTALL=1 installs them once, 54 MB)")
	}
	return modules, installCAP(dir)
}

// installCAP fills dir; of several test binaries one does, the others wait.
func installCAP(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the installation of CAP: %w", err)
	}
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	fmt.Fprintln(os.Stderr, "testenv: npm ci for CAP")
	fresh := dir + ".new"
	if err := errors.Join(os.RemoveAll(fresh), writeCAP(fresh)); err != nil {
		return err
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--no-update-notifier")
	cmd.Dir = fresh
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci for CAP: %w: %s", err, lastLine(out))
	}
	return os.Rename(fresh, dir)
}

var capListens = regexp.MustCompile(`server listening on \{ url: 'http://localhost:(\d+)' \}`)

// waitReady returns when the server answers on the port that it chose.
func (c *CAP) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		log, err := os.ReadFile(c.server.log)
		if err != nil {
			return err
		}
		if found := capListens.FindSubmatch(log); found != nil {
			port, err := strconv.Atoi(string(found[1]))
			c.Origin = fmt.Sprintf("http://127.0.0.1:%d", port)
			return errors.Join(err, c.answers(ctx))
		}
		select {
		case <-c.server.done:
			return fmt.Errorf("CAP ended at its start: %s", c.server.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("CAP is not ready after 60 s: %s", c.server.lastLog())
		case <-tick.C:
		}
	}
}

func (c *CAP) answers(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Origin+CAPRoot4+"/", nil)
	if err != nil {
		return err
	}
	request.SetBasicAuth(c.User, c.Password)
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("CAP answers %s", response.Status)
	}
	return nil
}
