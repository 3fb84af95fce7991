package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"ropeway/agent/internal/localapi"
	"ropeway/agent/internal/transport"
	"ropeway/protocol/fault"
)

// Config is everything an administrator of the agent's machine can set. Sources
// in rising order: defaults, the YAML file, the environment (ROPEWAY_AGENT_*),
// flags. Unknown keys are refused. No setting is a secret.
type Config struct {
	// State is the directory of key, certificate, buffer and site credentials.
	State string `yaml:"state"`
	// Policy is the site's policy file; without it everything is denied.
	Policy string `yaml:"policy"`
	// Transport of the tunnel: tcp (default), quic (UDP), or auto, which begins with tcp and
	// goes over to quic where that works.
	Transport string `yaml:"transport"`
	// Name this agent asks for when it enrolls; "" lets the hub choose.
	Name string `yaml:"name"`
	// Hub is where it enrolls (https://host[:port]); "" = where the token says.
	Hub string `yaml:"hub"`
	// Socket of the local API; "" = see SocketPath.
	Socket string `yaml:"socket"`
	// Buffer bounds what waits on disk.
	Buffer BufferConfig `yaml:"buffer"`
	// Log is the least level written to standard error.
	Log string `yaml:"log"`
}

// BufferConfig bounds the buffer. Quota is text like 512MiB or 2GiB; "" = 2 GiB
// or a tenth of the disk, whichever is smaller.
type BufferConfig struct {
	Quota string `yaml:"quota"`
}

const (
	maxConfig = 1 << 20
	envPrefix = "ROPEWAY_AGENT_"
)

// DefaultConfig is what an agent does without any setting. A named instance has
// a state directory and a policy of its own.
func DefaultConfig(instance string) Config {
	suffix := ""
	if instance != "" {
		suffix = "-" + instance
	}
	return Config{
		State:     "/var/lib/ropeway-agent" + suffix,
		Policy:    "/etc/ropeway/policy" + suffix + ".yaml",
		Transport: "tcp",
		Log:       "info",
	}
}

// DefaultFile is where the configuration of an instance is looked for when no
// file is named; it need not exist.
func DefaultFile(instance string) string {
	if instance != "" {
		return "/etc/ropeway/agent-" + instance + ".yaml"
	}
	return "/etc/ropeway/agent.yaml"
}

// ReadConfig lays the file at path and the environment over the defaults of an
// instance. An empty path means DefaultFile, which may be missing. Flags are the
// caller's, and so is Validate after them.
func ReadConfig(path, instance string, environ []string) (Config, error) {
	c := DefaultConfig(instance)
	if dir := serviceDirectory(environ); dir != "" {
		c.State = dir
	}
	if !instanceRule.MatchString(instance) {
		return c, configFault("the instance's name is not valid", "it has 1 to 32 letters, digits and dashes")
	}
	text, err := readConfigFile(path, instance)
	if err != nil {
		return c, err
	}
	if err := c.decode(text); err != nil {
		if path == "" {
			path = DefaultFile(instance)
		}
		return c, configFault(fmt.Sprintf("configuration file %s is not valid", path), err.Error())
	}
	return c, c.environment(environ)
}

var instanceRule = regexp.MustCompile(`^[A-Za-z0-9-]{0,32}$`)

func readConfigFile(path, instance string) ([]byte, error) {
	optional := path == ""
	if optional {
		path = DefaultFile(instance)
	}
	file, err := os.Open(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var text []byte
	if err == nil {
		defer file.Close()
		text, err = io.ReadAll(io.LimitReader(file, maxConfig+1))
	}
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("it is larger than %d bytes", maxConfig)
	}
	if err != nil {
		cause := err.Error()
		if at := (*fs.PathError)(nil); errors.As(err, &at) {
			cause = at.Err.Error()
		}
		return nil, configFault(fmt.Sprintf("configuration file %s cannot be read", path), cause).
			WithFix("name a readable file with --config, or leave the flag out")
	}
	return text, nil
}

func (c *Config) decode(text []byte) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	err := d.Decode(c)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return plainYAML(err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("a second document begins; the file is one YAML document")
	}
	return nil
}

var unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)

// plainYAML words the library's errors for people who did not write this program.
func plainYAML(err error) error {
	if t := (*yaml.TypeError)(nil); errors.As(err, &t) {
		return errors.New(unknownField.ReplaceAllString(strings.Join(t.Errors, "; "), "unknown key $1"))
	}
	return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
}

func (c *Config) environment(environ []string) error {
	fields := map[string]*string{
		"STATE": &c.State, "POLICY": &c.Policy, "TRANSPORT": &c.Transport, "NAME": &c.Name,
		"HUB": &c.Hub, "SOCKET": &c.Socket, "BUFFER_QUOTA": &c.Buffer.Quota, "LOG": &c.Log,
		"CONFIG": new(string), "INSTANCE": new(string), // read before the file was
	}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		short, ours := strings.CutPrefix(name, envPrefix)
		if !ours {
			continue
		}
		field, known := fields[short]
		if !known {
			return configFault(fmt.Sprintf("environment variable %s is not a setting", name), "ropeway-agent knows no such setting").
				WithFix("unset it, or see the sample configuration for what there is")
		}
		*field = value
	}
	return nil
}

// Validate refuses what cannot work, naming the key.
func (c Config) Validate() error {
	if c.State == "" {
		return configFault("state is empty", "key, certificate and buffer need a directory").WithField("state")
	}
	switch c.Transport {
	case transport.Auto, transport.TCP, transport.QUIC:
	default:
		return configFault(fmt.Sprintf("transport %.40q is not valid", c.Transport), "write auto, tcp or quic").WithField("transport")
	}
	if _, err := ParseLevel(c.Log); err != nil {
		return err
	}
	if c.Name != "" && !nameRule.MatchString(c.Name) {
		return configFault(fmt.Sprintf("name %.80q is not valid", c.Name),
			"a name has 1 to 63 lower-case letters, digits and dashes and begins and ends with a letter or digit").WithField("name")
	}
	_, err := c.Buffer.quota()
	return err
}

var nameRule = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseLevel reads debug, info, warn or error.
func ParseLevel(text string) (slog.Level, error) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	level, ok := levels[text]
	if !ok {
		return 0, configFault(fmt.Sprintf("log %.40q is not valid", text), "write debug, info, warn or error").WithField("log")
	}
	return level, nil
}

// SocketPath is where the local API listens: where `socket` says, else in the
// state directory. The packaged service has it in /run/ropeway-agent, where every
// command on the machine finds it without being told.
func (c Config) SocketPath() string {
	if c.Socket != "" {
		return c.Socket
	}
	if dir := runtimeDirectory(c.State); dir != "" {
		return filepath.Join(dir, localapi.SocketName)
	}
	return filepath.Join(c.State, localapi.SocketName)
}

// quota is in bytes, 0 when it is left to the buffer.
func (b BufferConfig) quota() (int64, error) {
	if b.Quota == "" {
		return 0, nil
	}
	var number int64
	var unit string
	units := map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
	n, _ := fmt.Sscanf(b.Quota, "%d%s", &number, &unit)
	factor, known := units[unit]
	if n != 2 || !known || number <= 0 || number > (1<<50)/factor || fmt.Sprintf("%d%s", number, unit) != b.Quota {
		return 0, configFault(fmt.Sprintf("buffer.quota %.40q is not valid", b.Quota), "write a number with KiB, MiB, GiB or TiB, such as 2GiB").
			WithField("buffer.quota")
	}
	if number*factor < 16<<20 {
		return 0, configFault(fmt.Sprintf("buffer.quota %s is too small", b.Quota), "the buffer needs at least 16MiB").
			WithField("buffer.quota")
	}
	return number * factor, nil
}

func configFault(sentence, cause string) *fault.Error {
	return fault.Of("E_CONFIG").WithSentence(sentence).WithCause(cause)
}
