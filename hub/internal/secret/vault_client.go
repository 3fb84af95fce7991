package secret

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// Bounds of one request to Vault. The time-out covers its repetitions.
const (
	vaultTimeout   = 10 * time.Second
	vaultDial      = 3 * time.Second
	vaultRetries   = 1
	vaultRetryWait = 100 * time.Millisecond
	vaultRetryMax  = 500 * time.Millisecond
	maxAnswer      = 4 << 20
	maxHeader      = 64 << 10
)

// newVaultClient makes a client that takes nothing from the environment: no
// VAULT_* variable and no proxy changes whom the hub trusts with its secrets.
func newVaultClient(cfg VaultConfig, roots *x509.CertPool, known *dialled) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address: cfg.Address, Timeout: vaultTimeout, MaxRetries: vaultRetries,
		MinRetryWait: vaultRetryWait, MaxRetryWait: vaultRetryMax,
		DisableRedirects: strings.HasPrefix(cfg.Address, "http:"), // from loopback to anywhere
		HttpClient: &http.Client{
			Transport: bounded{&http.Transport{
				DialContext:         known.dial,
				TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout: vaultDial, MaxResponseHeaderBytes: maxHeader,
				MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
			}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if err != nil {
		return nil, errors.New("the client of Vault cannot be made; check that no VAULT_ variable is set for the hub")
	}
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	client.ClearToken()
	client.SetWrappingLookupFunc(func(string, string) string { return "" })
	if cfg.Namespace != "" {
		client.SetNamespace(cfg.Namespace)
	}
	return client, nil
}

// maxDialled bounds the addresses that are remembered.
const maxDialled = 256

// dialled remembers the addresses of Vault, so that no step dials them.
type dialled struct {
	mu    sync.Mutex
	addrs map[netip.AddrPort]struct{}
}

// dial connects to address and remembers all addresses that its name has.
func (d *dialled) dial(ctx context.Context, network, address string) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, vaultDial)
	defer cancel()
	if host, port, err := net.SplitHostPort(address); err == nil {
		n, _ := strconv.ParseUint(port, 10, 16)
		ips, _ := net.DefaultResolver.LookupNetIP(limited, "ip", host) // the dial below reports what is wrong
		for _, ip := range ips {
			d.remember(netip.AddrPortFrom(ip.Unmap(), uint16(n)))
		}
	}
	return (&net.Dialer{}).DialContext(limited, network, address)
}

func (d *dialled) remember(a netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.addrs) < maxDialled {
		d.addrs[a] = struct{}{}
	}
}

func (d *dialled) list() []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.addrs))
}

// as is the client with a token, for one request.
func as(client *api.Client, token string) *api.Client {
	return client.WithRequestCallbacks(func(r *api.Request) { r.ClientToken = token })
}

// bounded is a transport whose answers end at maxAnswer bytes.
type bounded struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{resp.Body, maxAnswer}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

var errAnswerTooLong = errors.New("the answer is longer than any of Vault's")

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errAnswerTooLong
	}
	return n, err
}

// read asks for what is at a path. nil means that nothing is there.
func read(ctx context.Context, c *api.Client, path string) (*api.Secret, error) {
	limited, cancel := context.WithTimeout(ctx, vaultTimeout)
	defer cancel()
	resp, err := c.Logical().ReadRawWithContext(limited, path)
	var answer *api.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound && len(answer.Errors) > 0 {
		resp.Body.Close()
		return nil, err // not the secret is missing, but its engine
	}
	found, err := c.Logical().ParseRawResponseAndCloseBody(resp, err)
	if found == nil && err == nil && resp.StatusCode != http.StatusNotFound {
		return nil, errors.New("an empty answer")
	}
	return found, err
}

// write puts data to a path.
func write(ctx context.Context, c *api.Client, path string, data map[string]any) (*api.Secret, error) {
	return c.Logical().WriteWithContext(ctx, path, data)
}
