package hub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"ropeway/hub/internal/secret"
	"ropeway/protocol/fault"
)

// The secret engines.
const (
	engineEmbedded = "embedded"
	engineVault    = "vault"
)

// VaultConfig says where Vault is and how the hub signs in. Role id, secret id,
// token and the like are in files, never in the configuration itself; the hub
// reads them anew for each sign-in.
type VaultConfig struct {
	Address   string `yaml:"address"`   // https://HOST:PORT; http on loopback only
	Mount     string `yaml:"mount"`     // of the KV engine, version 2
	Transit   string `yaml:"transit"`   // mount of the transit engine
	Namespace string `yaml:"namespace"` // of Vault Enterprise
	CA        string `yaml:"ca"`        // PEM file; empty = the system's authorities

	Auth      string `yaml:"auth"`      // approle, kubernetes or token
	AuthMount string `yaml:"authMount"` // empty = as auth says

	RoleIDFile   string `yaml:"roleIdFile"` // approle
	SecretIDFile string `yaml:"secretIdFile"`
	Role         string `yaml:"role"` // kubernetes
	JWTFile      string `yaml:"jwtFile"`
	TokenFile    string `yaml:"tokenFile"` // token
}

func defaultSecrets() SecretsConfig {
	return SecretsConfig{Engine: engineEmbedded, Vault: VaultConfig{
		Mount: "secret", Transit: "transit", Auth: secret.AuthAppRole,
		JWTFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
	}}
}

// validate reports the first setting of the secrets that cannot work.
func (c SecretsConfig) validate() error {
	switch c.Engine {
	case engineEmbedded:
		if c.Vault.Address != "" {
			return errors.New("secrets.engine is embedded and secrets.vault.address is set: write engine: vault, or leave the address out")
		}
	case engineVault:
		if c.KeyFile != "" {
			return errors.New("secrets.keyFile is of the embedded engine: leave it out")
		}
		if err := secret.VaultConfig(c.Vault).Validate(); err != nil {
			return fmt.Errorf("secrets.vault.%w", err)
		}
	default:
		return fmt.Errorf("secrets.engine %q: write embedded or vault", c.Engine)
	}
	return nil
}

// openSecrets opens the configured engine. Whoever opens it closes it.
func openSecrets(c Config, log *slog.Logger) (secret.Engine, error) {
	if err := keepEngine(c.Data, c.Secrets.Engine); err != nil {
		return nil, err
	}
	if c.Secrets.Engine == engineVault {
		v, err := secret.OpenVault(secret.VaultConfig(c.Secrets.Vault), log.With("part", "secrets"))
		if err != nil {
			return nil, err
		}
		return v, nil
	}
	e, err := secret.Open(secret.Config{Dir: filepath.Join(c.Data, "secrets"), KeyFile: c.keyFile()})
	if err != nil {
		return nil, err
	}
	return e, nil
}

// keepEngine refuses another engine than the one whose keys have sealed the data.
func keepEngine(data, engine string) error {
	path := filepath.Join(data, "secrets.engine")
	raw, err := os.ReadFile(path)
	used := string(bytes.TrimSpace(raw))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Join(data, "secrets")); err == nil {
			used = engineEmbedded // made before there was a choice
		}
	case err != nil:
		return fmt.Errorf("read secret engine: %w", err)
	}
	switch {
	case used == "" || used == engine && raw == nil:
		return writeFile(path, []byte(engine+"\n"), 0o600)
	case used == engine:
		return nil
	}
	return fault.Of("E_CONFIG").WithSource("hub").
		WithCause(fmt.Sprintf("secrets.engine is %s, but what is in %s was sealed with keys of the engine %s", engine, data, used)).
		WithFix("set secrets.engine back, or start with an empty data folder and set objects and secrets anew")
}

// closeSecrets ends an engine that wants it.
func closeSecrets(e secret.Engine) {
	if c, ok := e.(io.Closer); ok {
		c.Close()
	}
}

// secretAddresses are where the engine's server is; steps must not dial it.
func secretAddresses(e secret.Engine) []netip.AddrPort {
	if s, ok := e.(interface{ Addresses() []netip.AddrPort }); ok {
		return s.Addresses()
	}
	return nil
}
