package hub

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// refusedOn starts a hub on data that must refuse to start, and returns why.
func refusedOn(t *testing.T, data string) string {
	t.Helper()
	c := DefaultConfig()
	c.Data, c.Listen, c.OpsListen = data, "127.0.0.1:0", "127.0.0.1:0"
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := Run(ctx, c, "test", io.Discard, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("the hub ran")
		return ""
	}
	return err.Error()
}

func TestADataFolderThatOthersMayWriteIsRefused(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o775, 0o702} {
		data := t.TempDir()
		if err := os.Chmod(data, mode); err != nil {
			t.Fatal(err)
		}
		if why := refusedOn(t, data); !strings.Contains(why, "written by others") || !strings.Contains(why, "chmod 0700") {
			t.Errorf("mode %o: %s", mode, why)
		}
		if entries, _ := os.ReadDir(data); len(entries) > 1 { // the lock
			t.Errorf("mode %o: the hub made %v there", mode, entries)
		}
	}
}

// A restored backup or a careless copy: the hub closes what is its own.
func TestWhatWasLeftOpenIsClosed(t *testing.T) {
	data := t.TempDir()
	if err := start(t, data).stop(); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"hub.db": 0o644, "admin.token": 0o644, "secrets": 0o755, "queue": 0o755, "keys": 0o755} {
		if err := os.Chmod(filepath.Join(data, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	start(t, data)
	for name, want := range map[string]os.FileMode{"hub.db": 0o600, "admin.token": 0o600, "secrets": 0o700, "queue": 0o700, "keys": 0o700, "ca.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(data, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %o", name, info.Mode(), err, want)
		}
	}
}

func TestKeysThatOthersReadAreRefused(t *testing.T) {
	for _, name := range []string{"keys/kek", "ca/root.pem"} {
		data := t.TempDir()
		if err := start(t, data).stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(data, name), 0o640); err != nil {
			t.Fatal(err)
		}
		if why := refusedOn(t, data); !strings.Contains(why, name) || !strings.Contains(why, "0640") {
			t.Errorf("%s: %s", name, why)
		}
	}
}

// Links that somebody laid where the hub will write lead nowhere.
func TestLinksInTheDataFolder(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	if err := os.Symlink(victim, filepath.Join(data, "hub.lock")); err != nil {
		t.Fatal(err)
	}
	if why := refusedOn(t, data); !strings.Contains(why, "hub.lock") {
		t.Errorf("a linked lock: %s", why)
	}
	data = t.TempDir()
	for _, name := range []string{"hub.sock", "ca.pem", "admin.token"} {
		if err := os.Symlink(victim, filepath.Join(data, name)); err != nil {
			t.Fatal(err)
		}
	}
	start(t, data)
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("the hub wrote through a link: %q, %v", text, err)
	}
}

// The local socket answers programs, not what came through a browser.
func TestTheLocalSocketIsForPrograms(t *testing.T) {
	r := start(t, t.TempDir())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", filepath.Join(r.config.Data, localSocket))
		}}}
	for name, c := range map[string]struct {
		host, header string
		want         int
	}{
		"a program": {localHost, "", 200}, "another host": {"evil.example", "", 403}, "an address": {"127.0.0.1", "", 403},
		"a page": {localHost, "Origin", 403}, "a browser": {localHost, "Sec-Fetch-Site", 403},
	} {
		req, err := http.NewRequest(http.MethodPost, "http://"+c.host+"/admin/create", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.header != "" {
			req.Header.Set(c.header, "null")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, c.want)
		}
	}
}

// A reset before the first token was used, and the file taken away afterwards, as
// one should: the next start neither fails nor makes another administrator.
func TestRestartAfterAResetWithoutItsFile(t *testing.T) {
	data := t.TempDir()
	first := start(t, data)
	if err := Admin(t.Context(), data, "reset", io.Discard); err != nil {
		t.Fatal(err)
	}
	token := first.token(t)
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(data, adminToken)); err != nil {
		t.Fatal(err)
	}
	again := start(t, data)
	if _, err := os.Stat(filepath.Join(data, adminToken)); !os.IsNotExist(err) {
		t.Error("the restart made another administrator's token")
	}
	if code, body := again.get(t, "/api/v1/me", token); code != 200 {
		t.Errorf("the administrator: %d %s", code, body)
	}
}
