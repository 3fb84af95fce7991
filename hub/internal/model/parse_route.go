package model

import (
	"net"
	"net/netip"
	"strconv"

	"gopkg.in/yaml.v3"
)

func readRoute(m *mapping) *Route {
	r := &Route{
		Description: m.text("description"),
		AgentGroup:  m.required("agentGroup"),
		Target:      m.required("target"),
		Expose:      readExpose(m.mapping("expose")),
	}
	if r.Target != "" {
		host, port, err := net.SplitHostPort(r.Target)
		n, perr := strconv.Atoi(port)
		if err != nil || perr != nil || host == "" || n < 1 || n > 65535 {
			m.fail("target", "write host:port, such as erp.plant.local:5432", "the target %q is not host:port", clip(r.Target))
		}
	}
	return r
}

func readExpose(m *mapping) *Expose {
	if m == nil {
		return nil
	}
	e := &Expose{Port: m.integer("port", 1, 65535), Allow: m.texts("allow")}
	m.done()
	if e.Port == 0 && !m.has("port") {
		m.fail("port", "add port", "expose has no port")
	}
	if len(e.Allow) == 0 {
		m.fail("allow", "list the networks that may connect, such as [10.0.0.0/8]", "expose needs allow: the list is mandatory")
	}
	for _, network := range e.Allow {
		if _, err := netip.ParsePrefix(network); err != nil {
			m.fail("allow", "write a network such as 10.0.0.0/8", "%q is not a network in CIDR form", clip(network))
		}
	}
	return e
}

func readListener(m *mapping) *Listener {
	l := &Listener{
		Description: m.text("description"),
		Flow:        m.required("flow"),
		AgentGroup:  m.text("agentGroup"),
	}
	n := m.at("verify")
	switch {
	case n == nil:
		m.fail("verify", "add verify: {hmac: sha256, header: …, credential: …} or verify: none", "verify is missing")
	case n.Kind == yaml.ScalarNode && n.Value == "none":
		l.Verify = &Verify{None: true}
	default:
		l.Verify = readVerify(m.mapping("verify"))
	}
	return l
}

func readVerify(m *mapping) *Verify {
	if m == nil {
		return nil
	}
	v := &Verify{
		HMAC:       m.choice("hmac", "sha256", "sha384", "sha512"),
		Header:     m.text("header"),
		Credential: m.required("credential"),
	}
	m.done()
	if v.HMAC == "" && !m.has("hmac") {
		m.fail("hmac", "add hmac: sha256", "verify has no method")
	}
	if v.HMAC != "" && v.Header == "" {
		m.fail("header", "name the header that carries the signature", "verify.header is missing")
	}
	return v
}
