package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/store"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// localSocket is where the hub's own machine administers it, in Data; 0600.
const localSocket = "hub.sock"

// listenLocal opens the local socket. A socket file left by a killed hub is
// replaced: the lock of the data folder says that nobody else serves it.
func (h *hub) listenLocal() (net.Listener, error) {
	path := filepath.Join(h.config.Data, localSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, os.Chmod(path, 0o600)
}

// localServer serves administration and profiling to the owner of the socket.
func (h *hub) localServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /admin/create", func(w http.ResponseWriter, r *http.Request) {
		text, err := h.newAdmin(r.Context())
		localAnswer(w, text, err)
	})
	mux.HandleFunc("POST /admin/reset", func(w http.ResponseWriter, r *http.Request) {
		path, err := h.resetAdmins(r.Context())
		localAnswer(w, "wrote "+path, err)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &http.Server{Handler: onlyPrograms(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
}

// localHost is the only Host that a request on the local socket may name.
const localHost = "hub"

// onlyPrograms refuses what a browser sends that was led to the socket through
// some bridge: another Host, an Origin.
func onlyPrograms(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != localHost || len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0 {
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(fault.Of("E_FORBIDDEN").
				WithCause("this socket is for programs of this machine").WithFix("call it as http://" + localHost + "/…"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

func localAnswer(w http.ResponseWriter, text string, err error) {
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		_ = json.NewEncoder(w).Encode(fault.From(err))
		return
	}
	fmt.Fprintln(w, text)
}

// newAdmin makes one more administrator's token; it is shown this once.
func (h *hub) newAdmin(ctx context.Context) (string, error) {
	tenant, err := h.store.TenantByName(ctx, firstTenant)
	if err != nil {
		return "", err
	}
	text, _, err := h.access.Issue(ctx, access.NewToken{
		Tenant: tenant.ID, Name: "admin-" + page.NewID().String(), Role: access.Admin, Actor: "local administrator",
	})
	return text, err
}

// resetAdmins revokes every administrator's token and writes a new one.
func (h *hub) resetAdmins(ctx context.Context) (string, error) {
	tenant, err := h.store.TenantByName(ctx, firstTenant)
	if err != nil {
		return "", err
	}
	old, err := h.store.APITokens(ctx, tenant.ID)
	if err != nil {
		return "", err
	}
	path := filepath.Join(h.config.Data, adminToken)
	if err := issueAdmin(ctx, h.access, tenant.ID, "admin-"+page.NewID().String(), path); err != nil {
		return "", err
	}
	for _, t := range old {
		if t.Role != string(access.Admin) || t.Revoked != nil {
			continue
		}
		if err := h.store.RevokeAPIToken(ctx, tenant.ID, t.Name, "local administrator", time.Now()); err != nil {
			return "", err
		}
	}
	return path, nil
}

// Admin asks the running hub of a data folder for a new administrator's token:
// verb create prints it, verb reset revokes the others and writes the file.
func Admin(ctx context.Context, data, verb string, out io.Writer) error {
	socket := filepath.Join(data, localSocket)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+localHost+"/admin/"+verb, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fault.Of("E_UNREACHABLE").WithSentence("no hub answers on this data folder").
			WithCause(socket).WithFix("start it with `ropeway-hub serve`, or name its folder with --data")
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var f fault.Error
		if err := json.Unmarshal(body, &f); err != nil {
			return err
		}
		return &f
	}
	_, err = out.Write(body)
	return err
}

// Check opens what a stopped hub keeps and says what it found. A running hub is
// reported as such; its health is at opsListen/readyz.
func Check(ctx context.Context, c Config, out io.Writer) error {
	fmt.Fprintln(out, "config   ok")
	release, err := lockData(c.Data)
	if err != nil {
		fmt.Fprintf(out, "hub      running on %s; ask http://%s/readyz\n", c.Data, c.OpsListen)
		return nil
	}
	defer release()
	secrets, err := openSecrets(c, slog.New(slog.DiscardHandler))
	if err == nil {
		defer closeSecrets(secrets)
		err = secrets.Health(ctx)
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "secrets  ok")
	s, err := store.Open(ctx, c.storeURL())
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Health(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "store    ok")
	return nil
}
