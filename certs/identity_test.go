package certs_test

import (
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"

	"ropeway/certs"
	"ropeway/protocol/page"
)

func TestIdentityRoundTrip(t *testing.T) {
	id := certs.Identity{TrustDomain: "abc.ropeway", Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}
	got, err := certs.ParseIdentity(&x509.Certificate{URIs: []*url.URL{id.URI()}})
	if err != nil || got != id {
		t.Errorf("ParseIdentity = %v, %v, want %v", got, err, id)
	}
}

func TestIdentityRefuses(t *testing.T) {
	id := certs.Identity{TrustDomain: "abc.ropeway", Tenant: page.NewID(), Environment: page.NewID(), Agent: page.NewID()}
	good := id.String()
	for name, uri := range map[string]string{
		"scheme":        strings.Replace(good, "spiffe", "https", 1),
		"no host":       strings.Replace(good, "abc.ropeway", "", 1),
		"port":          strings.Replace(good, "abc.ropeway", "abc.ropeway:1", 1),
		"user":          strings.Replace(good, "abc", "u@abc", 1),
		"query":         good + "?x",
		"fragment":      good + "#x",
		"trailing /":    good + "/",
		"double /":      strings.Replace(good, "/tenant", "//tenant", 1),
		"dot segments":  strings.Replace(good, "/env/", "/../env/", 1),
		"upper case id": strings.Replace(good, id.Agent.String(), strings.ToUpper(id.Agent.String()), 1),
		"escaped":       strings.Replace(good, "/tenant", "/%74enant", 1),
		"short id":      good[:len(good)-1],
		"hub":           certs.HubURI("abc.ropeway", "main").String(),
		"tenant":        certs.TenantURI("abc.ropeway", id.Tenant).String(),
		"long":          good + strings.Repeat("a", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(uri)
			if err != nil {
				t.Skip("no URL at all")
			}
			if got, err := certs.ParseIdentity(&x509.Certificate{URIs: []*url.URL{u}}); err == nil {
				t.Errorf("%s accepted as %v", uri, got)
			} else if len(err.Error()) > 2000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
	for name, cert := range map[string]*x509.Certificate{
		"no URI":   {},
		"two URIs": {URIs: []*url.URL{id.URI(), id.URI()}},
		"DNS name": {URIs: []*url.URL{id.URI()}, DNSNames: []string{"x"}},
		"address":  {URIs: []*url.URL{id.URI()}, IPAddresses: []net.IP{{1, 2, 3, 4}}},
		"e-mail":   {URIs: []*url.URL{id.URI()}, EmailAddresses: []string{"a@b"}},
	} {
		if got, err := certs.ParseIdentity(cert); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
}
