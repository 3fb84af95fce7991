// Package httpapi is the core that connectors to HTTP interfaces share: one
// client for one origin that dials through Env alone, bounded answers,
// credentials, cookies, and the faults that statuses and broken transports
// mean. It does not know what the bodies say, nor pages, queues or policies.
package httpapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// A Config says how to reach one origin.
type Config struct {
	Source         string        // the connector's name, for faults
	Root           *url.URL      // as ParseRoot returned it
	CA             string        // PEM certificates to trust instead of the system's; "" = the system's
	ConnectTimeout time.Duration // of a dial and of a TLS handshake
	Timeout        time.Duration // of one exchange with its body
	MaxBody        int64         // bytes of an answer, decompressed
}

// A Client sends requests to one origin. No environment variable and no answer
// makes it speak to another. Its methods may be called from any goroutine.
type Client struct {
	config    Config
	origin    string
	env       connectors.Env
	transport *http.Transport
	cookies   cookies
}

const (
	maxHeader    = 64 << 10
	maxRedirects = 4
	// idleTimeout is shorter than that of common servers (Node.js: 5 s), so that
	// a write rarely meets a connection that its server is closing.
	idleTimeout = 3 * time.Second
)

// New prepares a client; it does not dial.
func New(env connectors.Env, c Config) (*Client, error) {
	secure, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	client := &Client{config: c, origin: origin(c.Root), env: env}
	client.transport = &http.Transport{
		Proxy:                  nil, // never one of the environment
		DialContext:            client.dial,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    c.ConnectTimeout,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    4,
		ExpectContinueTimeout:  time.Second,
	}
	return client, nil
}

func tlsConfig(c Config) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.Root.Hostname()}
	if c.CA == "" {
		return config, nil
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
		return nil, fault.Of("E_SETTINGS").WithField("ca").WithCause("ca holds no PEM certificate")
	}
	return config, nil
}

// dialError marks errors of a time when nothing was sent yet.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// dial goes to the one origin, whatever the transport asks for, and leaves name
// resolution to Env.Dial, where the policy stands.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.ConnectTimeout)
	defer cancel()
	conn, err := c.env.Dial(ctx, "tcp", HostPort(c.config.Root))
	if err != nil {
		return nil, dialError{err}
	}
	return conn, nil
}

// Close ends idle connections; requests that still run end on their own.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// A Request is one exchange. The body is kept until it ends.
type Request struct {
	Method string
	URL    *url.URL // within the origin
	Header http.Header
	Body   []byte
}

// An Answer is what came back, whole. Every status is an answer.
type Answer struct {
	Source string
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request and reads its answer. A GET or HEAD follows redirects
// within the origin; any other redirect is an error. Every error is a
// *fault.Error.
func (c *Client) Do(ctx context.Context, r Request) (*Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.config.Timeout, errSlow)
	defer cancel()
	for range maxRedirects + 1 {
		if origin(r.URL) != c.origin {
			return nil, c.elsewhere(r.URL)
		}
		a, err := c.once(ctx, r)
		if err != nil {
			return nil, c.toFault(ctx, err)
		}
		if a.Status < 300 || a.Status > 399 || a.Status == http.StatusNotModified {
			return a, nil
		}
		if r.URL, err = c.redirect(r, a); err != nil {
			return nil, err
		}
	}
	return nil, c.redirected("it redirects in a circle")
}

func (c *Client) once(ctx context.Context, r Request) (*Answer, error) {
	request, err := c.build(ctx, r)
	if err != nil {
		return nil, err
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	c.cookies.take(response.Header, c.env.Clock)
	a := &Answer{Source: c.config.Source, Status: response.StatusCode, Header: response.Header}
	if response.ContentLength > c.config.MaxBody {
		return nil, c.tooLarge()
	}
	a.Body, err = io.ReadAll(io.LimitReader(response.Body, c.config.MaxBody+1))
	if err != nil {
		return nil, err
	}
	if int64(len(a.Body)) > c.config.MaxBody {
		return nil, c.tooLarge()
	}
	return a, nil
}

func (c *Client) build(ctx context.Context, r Request) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), bytes.NewReader(r.Body))
	if err != nil {
		return nil, fault.Of("E_REQUEST").WithSource(c.config.Source).WithCause("the request cannot be built")
	}
	// The transport must not send a write twice by itself, whatever its headers.
	request.GetBody = nil
	if len(r.Body) == 0 {
		request.Body = http.NoBody
	}
	for name, values := range r.Header {
		request.Header[name] = values
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", "ropeway")
	}
	c.cookies.put(request.Header, c.env.Clock)
	return request, c.authorize(ctx, request)
}

func (c *Client) tooLarge() error {
	return fault.Of("E_TOO_LARGE").WithSource(c.config.Source).
		WithSentence("the endpoint's answer is larger than the limit").
		WithCause(fmt.Sprintf("an answer may have %d MiB", c.config.MaxBody>>20))
}

// redirect is where a GET goes on.
func (c *Client) redirect(r Request, a *Answer) (*url.URL, error) {
	location := a.Header.Get("Location")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, c.redirected("it redirects a " + r.Method)
	}
	next, err := c.Resolve(r.URL, location)
	if err != nil {
		return nil, c.redirected("it redirects to " + hostOf(location))
	}
	return next, nil
}

func (c *Client) redirected(why string) error {
	return fault.Of("E_UNREACHABLE").WithSource(c.config.Source).
		WithSentence("the endpoint sends the request elsewhere").WithCause(why).
		WithFix("write the final address in the connection's settings, or let the endpoint answer without a sign-in page")
}

// Resolve makes an address of a link that an answer holds. A link that leaves
// the origin is refused: it would carry the credential away.
func (c *Client) Resolve(base *url.URL, link string) (*url.URL, error) {
	u, err := url.Parse(link)
	if err != nil || link == "" || len(link) > maxHeader {
		return nil, fault.New(fault.Internal, "E_FOREIGN_LINK", "the endpoint's answer holds a link that cannot be read").
			WithSource(c.config.Source).WithFix("report it to the operator of the endpoint")
	}
	u = base.ResolveReference(u)
	if origin(u) != c.origin || u.User != nil {
		return nil, c.elsewhere(u)
	}
	u.Fragment = ""
	return u, nil
}

func (c *Client) elsewhere(u *url.URL) error {
	return fault.New(fault.Internal, "E_FOREIGN_LINK", "the endpoint's answer points to another host").
		WithSource(c.config.Source).
		WithCause("the link goes to " + hostOf(u.String()) + ", the connection to " + c.config.Root.Host).
		WithFix("let the endpoint name itself as the connection does (behind a proxy: forward its host name)")
}

// hostOf is the part of a link that may be shown: the rest can hold data.
func hostOf(link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" || len(u.Host) > 255 {
		return "an address that cannot be read"
	}
	return strings.ToValidUTF8(u.Scheme+"://"+u.Host, "")
}
