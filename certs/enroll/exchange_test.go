package enroll_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ropeway/certs"
	"ropeway/certs/ca"
	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a listening hub whose issuer grants everything to a secret it knows.
type hub struct {
	t         *testing.T
	authority *ca.Authority
	address   string
	token     enroll.Token
	id        certs.Identity

	mu       sync.Mutex
	received []enroll.Application
	renewed  []enroll.Renewal
	answer   func(enroll.Grant) (enroll.Grant, error)
}

func newHub(t *testing.T) *hub {
	t.Helper()
	authority, err := ca.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{t: t, authority: authority}
	h.id = certs.Identity{TrustDomain: authority.TrustDomain(), Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}
	source, err := authority.HubCertificates([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	h.address = serve(t, func(ctx context.Context, raw net.Conn) {
		_ = enroll.Serve(ctx, tls.Server(raw, certs.HubEnrollTLS(source)), h)
	})
	h.token = enroll.Token{Hub: "https://" + h.address, Pin: authority.Pin(), Secret: enroll.NewSecret()}
	return h
}

// serve answers every connection until the test ends, and waits for the last.
func serve(t *testing.T, answer func(context.Context, net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { answer(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		wait.Wait()
	})
	return listener.Addr().String()
}

func (h *hub) grant(csr func() ([]byte, error)) (enroll.Grant, error) {
	chain, err := csr()
	if err != nil {
		return enroll.Grant{}, err
	}
	g := enroll.Grant{
		ChainPEM: string(chain), RootPEM: string(h.authority.RootPEM()), Agent: h.id.Agent, AgentName: "press-1",
		Tenant: h.id.Tenant, TenantName: "main", Environment: h.id.Environment, EnvironmentName: "default",
		Group: page.NewID(), GroupName: "plant-7",
	}
	if h.answer != nil {
		return h.answer(g)
	}
	return g, nil
}

func (h *hub) Enroll(_ context.Context, a enroll.Application) (enroll.Grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.received = append(h.received, a)
	if a.Secret != h.token.Secret {
		return enroll.Grant{}, fault.Of("E_TOKEN_INVALID").WithCause("unknown")
	}
	return h.grant(func() ([]byte, error) { return h.authority.SignAgent(h.id, a.CSR) })
}

func (h *hub) Renew(_ context.Context, r enroll.Renewal) (enroll.Grant, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.renewed = append(h.renewed, r)
	return h.grant(func() ([]byte, error) { return h.authority.SignAgent(h.id, r.CSR) })
}

func key(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (h *hub) enroll(t *testing.T, k crypto.Signer) (enroll.Grant, error) {
	t.Helper()
	return enroll.Enroll(t.Context(), dial, enroll.Request{Token: h.token, Key: k, Name: "press-1", Hostname: "host", Software: "1"})
}

func certificate(t *testing.T, g enroll.Grant, k crypto.Signer) tls.Certificate {
	t.Helper()
	chain, err := certs.ParseChain([]byte(g.ChainPEM))
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{PrivateKey: k, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

func TestEnrollThenRenew(t *testing.T) {
	h, k := newHub(t), key(t)
	grant, err := h.enroll(t, k)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := grant.Check(h.token.Pin, k.Public(), time.Now()); err != nil || id != h.id {
		t.Fatalf("Check = %v, %v", id, err)
	}
	if a := h.received[0]; a.Name != "press-1" || a.Hostname != "host" || a.Software != "1" || a.Remote == "" {
		t.Errorf("the issuer saw %+v", a)
	}
	for name, next := range map[string]crypto.Signer{"same key": k, "new key": key(t)} {
		renewed, err := enroll.Renew(t.Context(), dial, enroll.RenewRequest{
			Hub: h.token.Hub, Pin: h.token.Pin, Certificate: certificate(t, grant, k), Key: next, Software: "2",
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := renewed.Check(h.token.Pin, next.Public(), time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !h.renewed[0].Chain[0].Equal(certificate(t, grant, k).Leaf) {
		t.Error("the issuer saw another certificate")
	}
}

// The secret must not leave the agent before the hub has proved its root.
func TestForeignHubDoesNotSeeTheToken(t *testing.T) {
	mine, foreign := newHub(t), newHub(t)
	_, err := enroll.Enroll(t.Context(), dial, enroll.Request{Token: mine.token, Hub: foreign.token.Hub, Key: key(t)})
	f := fault.From(err)
	if err == nil || f.Code != "E_TOKEN_FOREIGN" || f.Cause == "" || f.Fix == "" || !errors.Is(err, certs.ErrPin) {
		t.Fatalf("Enroll = %v", err)
	}
	if len(foreign.received) > 0 {
		t.Error("the foreign hub got the token")
	}
}

// A stranger may show the true root behind a leaf of its own.
func TestPinOfARootThatDidNotSign(t *testing.T) {
	h, stranger := newHub(t), newHub(t)
	source, err := stranger.authority.HubCertificate([]string{"localhost"})
	if err != nil {
		t.Fatal(err)
	}
	root, err := certs.ParseChain(h.authority.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	source.Certificate = [][]byte{source.Certificate[0], root[0].Raw}
	show := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &source, nil }
	address := serve(t, func(ctx context.Context, raw net.Conn) {
		_ = enroll.Serve(ctx, tls.Server(raw, certs.HubEnrollTLS(show)), stranger)
	})
	_, err = enroll.Enroll(t.Context(), dial, enroll.Request{Token: h.token, Hub: "https://" + address, Key: key(t)})
	if fault.CodeOf(err) != "E_HUB_IDENTITY" || len(stranger.received) > 0 {
		t.Errorf("Enroll = %v", err)
	}
}

func TestAnswersThatTheAgentRefuses(t *testing.T) {
	h := newHub(t)
	other := newHub(t)
	for name, answer := range map[string]func(enroll.Grant) (enroll.Grant, error){
		"another root": func(g enroll.Grant) (enroll.Grant, error) {
			g.RootPEM = string(other.authority.RootPEM())
			return g, nil
		},
		"another key": func(g enroll.Grant) (enroll.Grant, error) {
			text, _ := certs.NewRequest(key(t))
			csr, _ := certs.ParseRequest(text)
			chain, err := h.authority.SignAgent(h.id, csr)
			g.ChainPEM = string(chain)
			return g, err
		},
		"another agent":    func(g enroll.Grant) (enroll.Grant, error) { g.Agent = page.NewID(); return g, nil },
		"no chain":         func(g enroll.Grant) (enroll.Grant, error) { g.ChainPEM = ""; return g, nil },
		"chain is rubbish": func(g enroll.Grant) (enroll.Grant, error) { g.ChainPEM = "x"; return g, nil },
		"two roots":        func(g enroll.Grant) (enroll.Grant, error) { g.RootPEM += g.RootPEM; return g, nil },
		"leaf alone": func(g enroll.Grant) (enroll.Grant, error) {
			g.ChainPEM = g.ChainPEM[:strings.Index(g.ChainPEM, "-----END CERTIFICATE-----\n")+26]
			return g, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			h.mu.Lock()
			h.answer = answer
			h.mu.Unlock()
			if _, err := h.enroll(t, key(t)); fault.CodeOf(err) != "E_HUB_IDENTITY" {
				t.Errorf("Enroll = %v", err)
			}
		})
	}
}

func TestFaultsCrossTheWire(t *testing.T) {
	h := newHub(t)
	h.answer = func(enroll.Grant) (enroll.Grant, error) {
		return enroll.Grant{}, fault.Of("E_TOKEN_USED").WithCause("by somebody").WithFix("ask")
	}
	_, err := h.enroll(t, key(t))
	if f := fault.From(err); f.Code != "E_TOKEN_USED" || f.Cause != "by somebody" || f.Fix != "ask" || f.Class != fault.Auth {
		t.Errorf("Enroll = %#v", f)
	}
}

func TestWhatIsNotAHub(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := silent.Addr().String()
	_ = silent.Close()
	h := newHub(t)
	source, _ := h.authority.HubCertificate([]string{"localhost"})
	web := serve(t, func(_ context.Context, raw net.Conn) {
		conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{source}, NextProtos: []string{"h2"}})
		_ = conn.Handshake()
		_ = conn.Close()
	})
	plain := serve(t, func(_ context.Context, raw net.Conn) {
		_, _ = io.WriteString(raw, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_ = raw.Close()
	})
	closing := serve(t, func(_ context.Context, raw net.Conn) { _ = raw.Close() })
	for name, test := range map[string]struct{ hub, code string }{
		"nothing listens": {"https://" + gone, "E_UNREACHABLE"},
		"plain HTTP":      {"https://" + plain, "E_TLS"},
		"a web server":    {"https://" + web, "E_TLS"},
		"closes at once":  {"https://" + closing, "E_UNREACHABLE"},
		"http address":    {"http://" + h.address, "E_REQUEST"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := enroll.Enroll(t.Context(), dial, enroll.Request{Token: h.token, Hub: test.hub, Key: key(t)})
			if f := fault.From(err); err == nil || f.Code != test.code || f.Cause == "" || f.Fix == "" {
				t.Errorf("Enroll = %v, want %s", err, test.code)
			}
		})
	}
}

// question is sent byte for byte by a hostile agent.
func (h *hub) raw(t *testing.T, cert *tls.Certificate, send func(io.Writer)) *fault.Error {
	t.Helper()
	var show certs.ClientCertificate
	if cert != nil {
		show = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	conn, err := tls.Dial("tcp", h.address, certs.AgentEnrollTLS(h.token.Pin, show))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send(conn)
	_ = conn.CloseWrite()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	all, err := io.ReadAll(conn)
	if err != nil || len(all) < 4 {
		t.Fatalf("answer of %d bytes: %v", len(all), err)
	}
	var answer struct{ Fault *fault.Error }
	if err := json.Unmarshal(all[4:], &answer); err != nil || answer.Fault == nil {
		t.Fatalf("answer %.200q: %v", all[4:], err)
	}
	return answer.Fault
}

func TestHostileQuestions(t *testing.T) {
	h := newHub(t)
	csr, err := certs.NewRequest(key(t))
	if err != nil {
		t.Fatal(err)
	}
	message := func(fields map[string]any) func(io.Writer) {
		return func(w io.Writer) {
			base := map[string]any{"version": 1, "kind": "enroll", "secret": h.token.Secret[:], "csr": string(csr)}
			for name, value := range fields {
				base[name] = value
			}
			body, _ := json.Marshal(base)
			_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
		}
	}
	bytes := func(text string) func(io.Writer) {
		return func(w io.Writer) { _, _ = io.WriteString(w, text) }
	}
	for name, test := range map[string]struct {
		send func(io.Writer)
		code string
	}{
		"nothing":         {bytes(""), "E_REQUEST"},
		"length 0":        {bytes("\x00\x00\x00\x00"), "E_REQUEST"},
		"length 2^31":     {bytes("\x80\x00\x00\x00"), "E_REQUEST"},
		"length 2^32-1":   {bytes("\xff\xff\xff\xff"), "E_REQUEST"},
		"length max+1":    {bytes("\x00\x00\x80\x01"), "E_REQUEST"},
		"cut off":         {bytes("\x00\x00\x00\x05{"), "E_REQUEST"},
		"not JSON":        {bytes("\x00\x00\x00\x05hello"), "E_REQUEST"},
		"HTTP":            {bytes("GET / HTTP/1.1\r\n\r\n"), "E_REQUEST"},
		"depth":           {bytes("\x00\x00\x30\x00" + strings.Repeat("[", 0x3000)), "E_REQUEST"},
		"null":            {bytes("\x00\x00\x00\x04null"), "E_FORMAT_VERSION"},
		"version 2":       {message(map[string]any{"version": 2}), "E_FORMAT_VERSION"},
		"unknown kind":    {message(map[string]any{"kind": "sign"}), "E_REQUEST"},
		"no csr":          {message(map[string]any{"csr": ""}), "E_CSR"},
		"two csrs":        {message(map[string]any{"csr": string(csr) + string(csr)}), "E_CSR"},
		"no secret":       {message(map[string]any{"secret": nil}), "E_TOKEN_INVALID"},
		"long secret":     {message(map[string]any{"secret": make([]byte, 33)}), "E_TOKEN_INVALID"},
		"wrong secret":    {message(map[string]any{"secret": make([]byte, 32)}), "E_TOKEN_INVALID"},
		"long name":       {message(map[string]any{"name": strings.Repeat("a", 256)}), "E_REQUEST"},
		"renew unproved":  {message(map[string]any{"kind": "renew"}), "E_UNAUTHENTICATED"},
		"type of a field": {message(map[string]any{"csr": 1}), "E_REQUEST"},
	} {
		t.Run(name, func(t *testing.T) {
			f := h.raw(t, nil, test.send)
			if f.Code != test.code || f.Sentence == "" || f.Fix == "" {
				t.Errorf("fault %+v, want %s", f, test.code)
			}
		})
	}
}

// A stranger who says nothing does not keep a hub from ending.
func TestSilentStrangerDoesNotHoldTheHub(t *testing.T) {
	var conn *tls.Conn
	t.Run("hub", func(t *testing.T) { // its end waits for every connection's end
		h := newHub(t)
		var err error
		if conn, err = tls.Dial("tcp", h.address, certs.AgentEnrollTLS(h.token.Pin, nil)); err != nil {
			t.Fatal(err)
		}
	})
	_ = conn.Close()
}

func FuzzServe(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x04null"))
	authority, err := ca.Open(f.TempDir(), nil)
	if err != nil {
		f.Fatal(err)
	}
	source, err := authority.HubCertificates([]string{"localhost"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, question []byte) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = enroll.Serve(context.Background(), tls.Server(far, certs.HubEnrollTLS(source)), &hub{})
		}()
		conn := tls.Client(near, certs.AgentEnrollTLS(authority.Pin(), nil))
		go func() {
			_, _ = conn.Write(question)
			_ = conn.CloseWrite()
		}()
		_, _ = io.Copy(io.Discard, conn)
		_ = near.Close()
		<-done
	})
}
