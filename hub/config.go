package hub

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Config is everything an operator can set. Sources in rising order: defaults,
// the YAML file, the environment (ROPEWAY_HUB_*), flags. Unknown keys are refused.
type Config struct {
	// Data is the folder of everything the hub keeps; made 0700 when missing.
	Data string `yaml:"data"`
	// Listen is the one port for agents, enrollment and the API (host:port).
	Listen string `yaml:"listen"`
	// OpsListen serves /metrics, /healthz and /readyz; keep it on loopback.
	OpsListen string `yaml:"opsListen"`
	// Names are further DNS names or IP addresses the hub certificate carries.
	Names []string `yaml:"names"`
	// Store says where objects, jobs and receipts are kept.
	Store StoreConfig `yaml:"store"`
	// Queue says where pages wait.
	Queue QueueConfig `yaml:"queue"`
	// Secrets says where credentials and data keys are kept.
	Secrets SecretsConfig `yaml:"secrets"`
	// Log is the least level written to standard error: debug, info, warn or error.
	Log string `yaml:"log"`
}

// StoreConfig chooses the store. URL is empty (SQLite in Data) or sqlite:PATH.
type StoreConfig struct {
	URL string `yaml:"url"`
}

// QueueConfig chooses the queue. URL is embedded.
type QueueConfig struct {
	URL string `yaml:"url"`
}

// SecretsConfig chooses the secret engine. Engine is embedded or vault; KeyFile
// holds the key that wraps all others of the embedded one and belongs on another
// disk than Data.
type SecretsConfig struct {
	Engine  string      `yaml:"engine"`
	KeyFile string      `yaml:"keyFile"`
	Vault   VaultConfig `yaml:"vault"`
}

// DefaultConfig is what `serve` uses without any setting.
func DefaultConfig() Config {
	return Config{
		Data:      "./ropeway-data",
		Listen:    "0.0.0.0:8443",
		OpsListen: "127.0.0.1:9090",
		Queue:     QueueConfig{URL: "embedded"},
		Secrets:   defaultSecrets(),
		Log:       "info",
	}
}

// ReadConfig lays the file at path (none if empty) and the environment over the
// defaults. Flags are the caller's.
func ReadConfig(path string, environ []string) (Config, error) {
	c := DefaultConfig()
	if path != "" {
		f, err := os.Open(path)
		if err != nil {
			return c, fmt.Errorf("open config: %w", err)
		}
		defer f.Close()
		if err := decodeConfig(f, &c); err != nil {
			return c, fmt.Errorf("read config %s: %w", path, err)
		}
	}
	if err := c.environment(environ); err != nil {
		return c, err
	}
	return c, nil
}

func decodeConfig(r io.Reader, c *Config) error {
	dec := yaml.NewDecoder(io.LimitReader(r, 1<<20))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// settings maps the names of environment variables to fields.
func (c *Config) settings() map[string]*string {
	const vault = "ROPEWAY_HUB_SECRETS_VAULT_"
	return map[string]*string{
		"ROPEWAY_HUB_DATA":             &c.Data,
		"ROPEWAY_HUB_LISTEN":           &c.Listen,
		"ROPEWAY_HUB_OPS_LISTEN":       &c.OpsListen,
		"ROPEWAY_HUB_STORE_URL":        &c.Store.URL,
		"ROPEWAY_HUB_QUEUE_URL":        &c.Queue.URL,
		"ROPEWAY_HUB_SECRETS_ENGINE":   &c.Secrets.Engine,
		"ROPEWAY_HUB_SECRETS_KEY_FILE": &c.Secrets.KeyFile,
		"ROPEWAY_HUB_LOG":              &c.Log,
		vault + "ADDRESS":              &c.Secrets.Vault.Address,
		vault + "MOUNT":                &c.Secrets.Vault.Mount,
		vault + "TRANSIT":              &c.Secrets.Vault.Transit,
		vault + "NAMESPACE":            &c.Secrets.Vault.Namespace,
		vault + "CA":                   &c.Secrets.Vault.CA,
		vault + "AUTH":                 &c.Secrets.Vault.Auth,
		vault + "AUTH_MOUNT":           &c.Secrets.Vault.AuthMount,
		vault + "ROLE_ID_FILE":         &c.Secrets.Vault.RoleIDFile,
		vault + "SECRET_ID_FILE":       &c.Secrets.Vault.SecretIDFile,
		vault + "ROLE":                 &c.Secrets.Vault.Role,
		vault + "JWT_FILE":             &c.Secrets.Vault.JWTFile,
		vault + "TOKEN_FILE":           &c.Secrets.Vault.TokenFile,
	}
}

func (c *Config) environment(environ []string) error {
	fields := c.settings()
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "ROPEWAY_HUB_") {
			continue
		}
		if name == "ROPEWAY_HUB_NAMES" {
			c.Names = strings.Split(value, ",")
			continue
		}
		field, ok := fields[name]
		if !ok {
			return fmt.Errorf("environment variable %s is not a setting of ropeway-hub", name)
		}
		*field = value
	}
	return nil
}

// Validate reports the first setting that cannot work, with what to write instead.
func (c Config) Validate() error {
	for key, addr := range map[string]string{"listen": c.Listen, "opsListen": c.OpsListen} {
		if err := checkAddr(addr); err != nil {
			return fmt.Errorf("%s %q: %w", key, addr, err)
		}
	}
	if c.Data == "" {
		return errors.New("data is empty: name the folder the hub keeps its data in")
	}
	if c.Store.URL != "" && !strings.HasPrefix(c.Store.URL, "sqlite:") {
		return fmt.Errorf("store.url %q: this version keeps its store in SQLite; leave it out or write sqlite:PATH", c.Store.URL)
	}
	if c.Queue.URL != "embedded" {
		return fmt.Errorf("queue.url %q: this version has the embedded queue only; write embedded", c.Queue.URL)
	}
	if err := c.Secrets.validate(); err != nil {
		return err
	}
	switch c.Log {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("log %q: write debug, info, warn or error", c.Log)
	}
	return nil
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("write host:port, for example 0.0.0.0:8443")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New("the port is a number from 0 to 65535")
	}
	return nil
}

// storeURL returns the URL of the store with its default filled in.
func (c Config) storeURL() string {
	if c.Store.URL != "" {
		return c.Store.URL
	}
	return "sqlite:" + filepath.Join(c.Data, "hub.db")
}

// keyFile returns the path of the key-encryption key with its default filled in.
func (c Config) keyFile() string {
	if c.Secrets.KeyFile != "" {
		return c.Secrets.KeyFile
	}
	return filepath.Join(c.Data, "keys", "kek")
}

// SampleConfig is the documented config file that `ropeway-hub init` writes; it
// says what the defaults say.
const SampleConfig = `# Ropeway hub. Every key may be left out; what stands here is the default.
# Environment variables (ROPEWAY_HUB_DATA, ROPEWAY_HUB_LISTEN, …) and flags win over this file.

# Folder of everything the hub keeps.
data: ./ropeway-data

# The one port for agents, enrollment and the API.
listen: 0.0.0.0:8443

# /metrics, /healthz and /readyz. Keep it on loopback.
opsListen: 127.0.0.1:9090

# Further DNS names or IP addresses for the hub certificate.
names: []

store:
  # Empty = SQLite in the data folder, or sqlite:PATH.
  url: ""

queue:
  # Where pages wait: embedded = in this process.
  url: embedded

secrets:
  # Where credentials and data keys are kept: embedded = sealed files in the data folder,
  # vault = HashiCorp Vault (docs/vault.md). It cannot be changed once there is data.
  engine: embedded
  # embedded: the key that wraps all others. Keep it on another disk than the data;
  # empty = keys/kek in the data folder.
  keyFile: ""
  # vault: what proves who the hub is comes from files, never from here.
  vault:
    # https://HOST:PORT; http on loopback only.
    address: ""
    # Mounts of the KV engine (version 2) and of the transit engine.
    mount: secret
    transit: transit
    # Namespace of Vault Enterprise.
    namespace: ""
    # PEM file of the authority of Vault's certificate; empty = those of the system.
    ca: ""
    # How the hub signs in: approle, kubernetes or token; authMount: empty = as auth says.
    auth: approle
    authMount: ""
    # approle
    roleIdFile: ""
    secretIdFile: ""
    # kubernetes
    role: ""
    jwtFile: /var/run/secrets/kubernetes.io/serviceaccount/token
    # token: read again when Vault takes it no more
    tokenFile: ""

# Least level written to standard error: debug, info, warn or error.
log: info
`
