package enroll

import (
	"errors"
	"net"
	"net/url"
	"strconv"
)

// Address turns a hub URL, https://host[:port] (443 when left out), into the
// host:port to dial. User, path, query and fragment are refused.
func Address(hub string) (string, error) {
	if len(hub) > 512 {
		return "", errors.New("hub URL is longer than 512 bytes")
	}
	u, err := url.Parse(hub)
	if err != nil {
		return "", errors.New("hub URL cannot be read, want https://host[:port]")
	}
	switch {
	case u.Scheme != "https":
		return "", errors.New("hub URL does not begin with https://")
	case u.User != nil:
		return "", errors.New("hub URL holds a user, want https://host[:port]")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return "", errors.New("hub URL goes on after the port, want https://host[:port]")
	}
	host, port := u.Hostname(), u.Port()
	if !isHost(host) {
		return "", errors.New("hub URL has no host name of plain letters (write an international name in its xn-- form)")
	}
	if port == "" {
		port = "443"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("hub URL has a port outside 1..65535")
	}
	return net.JoinHostPort(host, port), nil
}

// isHost accepts DNS names and addresses; an IPv6 zone is no host for a hub.
func isHost(host string) bool {
	if net.ParseIP(host) != nil {
		return true
	}
	for i := range len(host) {
		c := host[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '.' && c != '_') {
			return false
		}
	}
	return host != "" && len(host) <= 253
}
