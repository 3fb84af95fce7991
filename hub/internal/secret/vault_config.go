package secret

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
)

// VaultConfig says where a Vault is and how the hub signs in to it. What proves
// who the hub is comes from files, which are read anew for each sign-in.
type VaultConfig struct {
	Address   string // https://HOST[:PORT]; http on loopback only
	Mount     string // of the KV engine, version 2
	Transit   string // mount of the transit engine
	Namespace string // of Vault Enterprise; "" = none
	CA        string // PEM file of the authorities to trust; "" = the system's

	Auth      string // approle, kubernetes or token
	AuthMount string // "" = as Auth says

	RoleIDFile   string // approle
	SecretIDFile string
	Role         string // kubernetes
	JWTFile      string
	TokenFile    string // token
}

// The ways to sign in.
const (
	AuthAppRole    = "approle"
	AuthKubernetes = "kubernetes"
	AuthToken      = "token"
)

// Validate reports the first setting that cannot work; the error begins with its
// key in the hub's configuration.
func (c VaultConfig) Validate() error {
	if err := checkAddress(c.Address); err != nil {
		return fmt.Errorf("address %q: %w", c.Address, err)
	}
	for key, mount := range map[string]string{"mount": c.Mount, "transit": c.Transit} {
		if !validMount(mount) {
			return fmt.Errorf("%s %q: write the path of the engine, for example secret or team/kv", key, mount)
		}
	}
	if c.AuthMount != "" && !validMount(c.AuthMount) {
		return fmt.Errorf("authMount %q: write the path of the method below auth/", c.AuthMount)
	}
	if strings.ContainsAny(c.Namespace, " \r\n\t") {
		return fmt.Errorf("namespace %q: it has no spaces", c.Namespace)
	}
	for key, value := range c.needed() {
		if value == "" {
			return fmt.Errorf("%s is empty: auth %s needs it", key, c.Auth)
		}
	}
	switch c.Auth {
	case AuthAppRole, AuthKubernetes, AuthToken:
		return nil
	}
	return fmt.Errorf("auth %q: write approle, kubernetes or token", c.Auth)
}

// needed are the settings that the way to sign in needs.
func (c VaultConfig) needed() map[string]string {
	switch c.Auth {
	case AuthAppRole:
		return map[string]string{"roleIdFile": c.RoleIDFile, "secretIdFile": c.SecretIDFile}
	case AuthKubernetes:
		return map[string]string{"role": c.Role, "jwtFile": c.JWTFile}
	case AuthToken:
		return map[string]string{"tokenFile": c.TokenFile}
	}
	return nil
}

func checkAddress(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("write https://HOST:PORT")
	case u.User != nil:
		return errors.New("no user name belongs here")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("write https://HOST:PORT; http is for loopback only, since tokens travel on it")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func validMount(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
		for _, r := range part {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r) {
				return false
			}
		}
	}
	return true
}

// maxProof bounds a file that proves who the hub is.
const maxProof = 16 << 10

// readProof reads such a file. Its errors never quote it.
func readProof(path string, private bool) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", path)
	}
	if private && info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("everybody may read %s (mode %04o); chmod 600 it", path, info.Mode().Perm())
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxProof+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(raw))
	if text == "" || len(raw) > maxProof || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s does not hold one line of text", path)
	}
	return text, nil
}

// readRoots reads the authorities to trust; nil = the system's.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read ca: %s holds no certificate", path)
	}
	return roots, nil
}
