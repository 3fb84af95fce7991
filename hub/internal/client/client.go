package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// maxReply bounds what is read of an answer.
const maxReply = 64 << 20

// Client talks to one hub as one caller in one environment.
type Client struct {
	base        *url.URL
	http        *http.Client
	token       string
	environment string
	agent       string
}

// New makes a client. It reads the authority and token files, and dials nothing.
func New(c Config) (*Client, error) {
	base, err := hubURL(c.URL)
	if err != nil {
		return nil, err
	}
	dial := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	if onThisMachine(base) {
		dial = patient(dial)
		awaitFiles(c.CA, c.tokenFile())
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	roots, err := pinned(c.CA)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		ForceAttemptHTTP2:     true,
		DialContext:           dial,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 90 * time.Second,
		IdleConnTimeout:       30 * time.Second,
	}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: base, token: token, environment: c.Environment, agent: "ropeway/" + c.Version,
		http: &http.Client{Transport: transport, CheckRedirect: noRedirect}}, nil
}

// hubURL checks the address of a hub. The token travels to it, so plain HTTP is
// for this machine only.
func hubURL(text string) (*url.URL, error) {
	bad := fault.Of("E_CONFIG").WithSentence("the address of the hub cannot be used").
		WithFix("set ROPEWAY_URL=https://HOST:PORT, or run ropeway login")
	if text == "" {
		return nil, bad.WithSentence("the address of the hub is not known")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return nil, bad.WithCause("it must look like https://HOST:PORT")
	}
	switch u.Scheme {
	case "https":
	case "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return nil, bad.WithCause("plain http would show the token to the network")
		}
	default:
		return nil, bad.WithCause("the scheme must be https")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// pinned reads the only authorities to trust; nil means those of the system.
func pinned(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fault.Of("E_CONFIG").WithSentence("the authority file cannot be read").WithCause(err).
			WithFix("check ROPEWAY_CA; the hub writes ca.pem into its data directory")
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fault.Of("E_CONFIG").WithSentence("the authority file holds no certificate").WithCause(file).
			WithFix("check ROPEWAY_CA; the hub writes ca.pem into its data directory")
	}
	return pool, nil
}

// URL is the address of the hub.
func (c *Client) URL() string { return c.base.String() }

// request is one call of the API.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	contentType  string
	accept       string
}

// do calls the API and decodes the answer into out, which may be nil. An error
// is a *fault.Error; a model.Problem in its chain lists single problems.
func (c *Client) do(ctx context.Context, r request, out any) error {
	resp, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	defer drain(resp.Body)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return unreachable(c.base.Host, err)
	}
	if len(body) > maxReply {
		return fault.Of("E_TOO_LARGE").WithCause("the answer of the hub is too large")
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fault.Of("E_PARSE").WithSentence("the answer of the hub cannot be read").WithCause(err.Error()).
			WithFix("check that ROPEWAY_URL is a hub of this version")
	}
	return nil
}

// send returns an answer whose status is a success.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	u, err := url.Parse(c.base.String() + r.path)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if r.query == nil {
		r.query = url.Values{}
	}
	if c.environment != "" && r.query.Get("environment") == "" && !global(r.path) {
		r.query.Set("environment", c.environment)
	}
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", "application/json")
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.body != nil {
		req.Header.Set("Content-Type", r.contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(c.base.Host, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer drain(resp.Body)
	return nil, problem(resp)
}

// global reports whether a path does not belong to an environment.
func global(path string) bool {
	switch path {
	case "/api/v1/version", "/api/v1/me", "/api/v1/audit", "/api/v1/audit/verify":
		return true
	}
	return false
}

// drain lets the connection be used again.
func drain(body io.ReadCloser) {
	if _, err := io.CopyN(io.Discard, body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return
	}
	if err := body.Close(); err != nil {
		return
	}
}

// problem reads the error answer of a hub, or describes one of something else.
func problem(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return unreachable(resp.Request.URL.Host, err)
	}
	var p model.Problem
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		return fault.New(fault.Internal, "E_NO_HUB", "the server does not answer like a hub").
			WithCause(resp.Status).WithFix("check ROPEWAY_URL")
	}
	f := &fault.Error{Code: p.Code, Class: fault.Class(p.Class), Sentence: p.Title, Cause: p.Cause, Fix: p.Fix,
		Field: p.Field, Source: p.Source}
	return f.Wrap(&p)
}

// unreachable describes why no answer came. A bad certificate is told apart.
func unreachable(host string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid) {
		return fault.Of("E_TLS").WithSentence("the server at " + host + " does not prove that it is the hub").
			WithCause(cut(err)).WithFix("set ROPEWAY_CA to the ca.pem of the hub, and use a name of its certificate")
	}
	return fault.Of("E_UNREACHABLE").WithSentence("the hub at " + host + " cannot be reached").
		WithCause(cut(err)).WithFix("check ROPEWAY_URL and that the hub runs")
}

// cut leaves out the method and address that the library puts before a cause.
func cut(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Error()
}
