package httpapi

import (
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"

	"ropeway/protocol/fault"
)

// ParseRoot reads the address under which everything of an interface lies:
// http or https, one host, a path, and nothing that could change what is asked
// or carry a secret. The path ends with a slash. field names the setting.
func ParseRoot(text, field string) (*url.URL, error) {
	bad := func(why string) (*url.URL, error) {
		return nil, fault.Of("E_SETTINGS").WithField(field).WithCause(field + " " + why)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) {
		return bad("holds a blank, a control character or a backslash")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return bad("is not an address such as https://sap.example.com:44300/sap/opu/odata/sap/ORDERS_SRV")
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("must begin with https:// (or http:// where nothing is encrypted)")
	case u.User != nil:
		return bad("must not hold a user or password; they belong in the credential")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("must not hold a query or fragment")
	case !validHost(u.Hostname()):
		return bad("must name one host or one IP address")
	case !validPort(u):
		return bad("has a port that is not from 1 to 65535")
	case path.Clean("/"+u.Path) != "/"+strings.Trim(u.Path, "/"):
		return bad("has a path with .. or empty parts")
	}
	u.Host = HostPort(u)
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/")+"/", ""
	return u, nil
}

func validHost(host string) bool {
	if strings.Contains(host, ":") {
		return net.ParseIP(host) != nil
	}
	return host != "" && len(host) <= 253 && !strings.HasPrefix(host, ".") &&
		!strings.ContainsAny(host, "/\\@,;?%[]=*'\"<>")
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// HostPort is "host:port" of an address, with the scheme's port where none is
// written: what the site's policy matches.
func HostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// origin tells addresses apart as browsers do (RFC 6454).
func origin(u *url.URL) string {
	return u.Scheme + "://" + strings.ToLower(HostPort(u))
}
