package odata

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"ropeway/connectors"
	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

const (
	maxBody = 32 << 20 // bytes of an answer
	// metadataAge is how long $metadata is believed; a fault that speaks of a
	// changed structure ends it at once.
	metadataAge = 5 * time.Minute
)

// A conn is a session with one service: connections, cookies and a token, all
// made when they are needed.
type conn struct {
	env      connectors.Env
	settings connectors.Settings
	root     *url.URL
	client   *httpapi.Client
	token    token
	begun    begun

	mu   sync.Mutex
	svc  *service
	seen time.Time // when svc was read
}

func open(env connectors.Env, s connectors.Settings) (*conn, error) {
	root, err := httpapi.ParseRoot(s.String("url"), "url")
	if err != nil {
		return nil, err
	}
	if err := checkLogon(s); err != nil {
		return nil, err
	}
	if env.Clock == nil {
		env.Clock = time.Now
	}
	client, err := httpapi.New(env, httpapi.Config{
		Source: name, Root: root, CA: s.String("ca"), MaxBody: maxBody,
		ConnectTimeout: s.Duration("connectTimeout"), Timeout: s.Duration("timeout"),
	})
	if err != nil {
		return nil, err
	}
	return &conn{env: env, settings: s, root: root, client: client}, nil
}

// Close ends idle connections. There is no session to sign off from: SAP's
// ends by itself.
func (c *conn) Close() error {
	c.client.Close()
	return nil
}

// ping asks for the service document.
func (c *conn) ping(ctx context.Context) error {
	a, err := c.get(ctx, c.at("", ""), http.Header{"Accept": {"application/json, application/atomsvc+xml;q=0.8"}})
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return c.refused(a)
	}
	return nil
}

// at is the address of something of the service, relative to its root. query is
// encoded already.
func (c *conn) at(relative, query string) *url.URL {
	u := *c.root
	if relative != "" {
		if r, err := url.Parse("./" + relative); err == nil {
			u = *c.root.ResolveReference(r)
		}
	}
	u.RawQuery = query
	return c.logon(&u)
}

// logon adds client and language where an address lacks them.
func (c *conn) logon(u *url.URL) *url.URL {
	for _, option := range []struct{ name, setting string }{{"sap-client", "client"}, {"sap-language", "language"}} {
		value := c.settings.String(option.setting)
		if value == "" || strings.Contains("&"+u.RawQuery, "&"+option.name+"=") {
			continue
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += option.name + "=" + value
	}
	return u
}

// get sends a GET. A page for people is never an answer.
func (c *conn) get(ctx context.Context, u *url.URL, header http.Header) (*httpapi.Answer, error) {
	a, err := c.client.Do(ctx, httpapi.Request{Method: http.MethodGet, URL: u, Header: c.headers(header)})
	if err != nil {
		return nil, err
	}
	if a.Status < 300 && a.IsHTML() {
		return nil, a.NotData()
	}
	return a, nil
}

func (c *conn) headers(more http.Header) http.Header {
	h := http.Header{}
	if language := c.settings.String("language"); language != "" {
		h.Set("Accept-Language", strings.ToLower(language))
	}
	for name, values := range more {
		h[name] = values
	}
	return h
}

// versions are the headers by which a request says what it speaks.
func versions(version int) http.Header {
	if version == 4 {
		return http.Header{"Odata-Version": {"4.0"}, "Odata-Maxversion": {"4.0"},
			"Accept": {"application/json;odata.metadata=minimal;IEEE754Compatible=true"}}
	}
	return http.Header{"Dataserviceversion": {"2.0"}, "Maxdataserviceversion": {"2.0"},
		"Accept": {"application/json"}}
}

// service returns what $metadata says.
func (c *conn) service(ctx context.Context) (*service, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.svc != nil && c.env.Clock().Sub(c.seen) < metadataAge {
		return c.svc, nil
	}
	a, err := c.get(ctx, c.at("$metadata", ""), http.Header{"Accept": {"application/xml"}})
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, c.refused(a)
	}
	svc, err := parseMetadata(a.Body)
	if err != nil {
		return nil, err
	}
	if want := c.settings.String("version"); want != auto && want != map[int]string{2: v2, 4: v4}[svc.version] {
		return nil, fault.Of("E_SCHEMA_DRIFT").WithSource(name).
			WithCause("the service does not speak the version that the connection's settings name (" + want + ")").
			WithFix("set version: auto, or correct url")
	}
	c.svc, c.seen = svc, c.env.Clock()
	return svc, nil
}

// set finds an entity set.
func (c *conn) set(ctx context.Context, table string) (*service, *structure, error) {
	svc, err := c.service(ctx)
	if err != nil {
		return nil, nil, err
	}
	s := svc.sets[table]
	if s == nil {
		c.forget()
		return nil, nil, fault.Of("E_TABLE_MISSING").WithSource(name).
			WithCause("the service has no entity set " + httpapi.Plain(table, 80))
	}
	return svc, s, nil
}

// forget makes the next request read $metadata again.
func (c *conn) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.svc = nil
}

// noticed passes an error on and forgets $metadata when it speaks of a changed
// structure.
func (c *conn) noticed(err error) error {
	if fault.ClassOf(err) == fault.SchemaDrift {
		c.forget()
	}
	return err
}

// refused is the fault of an answer to a request that is about no single
// record: it never parks one.
func (c *conn) refused(a *httpapi.Answer) error {
	f := c.faultOf(a, nil)
	switch {
	case a.Status == http.StatusNotFound || a.Status == http.StatusGone:
		f = fault.Of("E_UNREACHABLE").WithSource(name).WithCause(f.Cause).
			WithSentence("the service is not there").WithFix("check url in the connection's settings, and that the service is active")
	case f.Class.Parks():
		f = fault.Of("E_QUERY").WithSource(name).WithCause(f.Cause)
	}
	return f
}
