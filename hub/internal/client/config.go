package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// Config says which hub to talk to, and as whom.
type Config struct {
	URL         string // https://HOST:PORT
	Token       string // the token itself, else
	TokenFile   string // a file with it
	CA          string // PEM file with the only authorities to trust; empty = the system's
	Environment string // empty = the hub's default
	Version     string // of this program
}

// maxTokenFile bounds a token file.
const maxTokenFile = 16 << 10

// tokenFile is the file the token is read from; "" when it is given.
func (c Config) tokenFile() string {
	if c.Token != "" {
		return ""
	}
	return c.TokenFile
}

// token returns the bearer token; "" when there is none.
func (c Config) token() (string, error) {
	if c.Token != "" || c.TokenFile == "" {
		return strings.TrimSpace(c.Token), nil
	}
	f, err := os.Open(c.TokenFile)
	if err != nil {
		return "", fault.Of("E_CONFIG").WithSentence("the token file cannot be read").WithCause(err).
			WithFix("check ROPEWAY_TOKEN_FILE, or run ropeway login")
	}
	defer closeQuietly(f)
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	token := strings.TrimSpace(string(text))
	if err != nil || len(text) > maxTokenFile || token == "" || strings.ContainsAny(token, " \t\r\n\x00") {
		return "", fault.Of("E_CONFIG").WithSentence("the token file does not hold one token").WithCause(c.TokenFile).
			WithFix("check ROPEWAY_TOKEN_FILE, or run ropeway login")
	}
	return token, nil
}

// closeQuietly closes what was only read.
func closeQuietly(c io.Closer) {
	if err := c.Close(); err != nil {
		return
	}
}

// Profiles is the file ~/.config/ropeway/config.yaml.
type Profiles struct {
	Current  string             `yaml:"current"`
	Profiles map[string]Profile `yaml:"profiles"`
}

// Profile is one hub as `ropeway login` noted it. The token is in a file of its own.
type Profile struct {
	URL         string `yaml:"url"`
	CA          string `yaml:"ca,omitempty"`
	TokenFile   string `yaml:"tokenFile,omitempty"`
	Environment string `yaml:"environment,omitempty"`
}

// ProfileDir is where profiles and their tokens are; "" when this user has no
// such place.
func ProfileDir() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "ropeway")
}

// LoadProfiles reads the profiles in dir; none when there is no file.
func LoadProfiles(dir string) (Profiles, error) {
	out := Profiles{Profiles: map[string]Profile{}}
	if dir == "" {
		return out, nil
	}
	path := filepath.Join(dir, "config.yaml")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return out, fmt.Errorf("read profiles: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&out); err != nil && !errors.Is(err, io.EOF) {
		return out, fault.Of("E_CONFIG").WithCause(path + ": " + strings.TrimPrefix(err.Error(), "yaml: ")).
			WithFix("correct the file, or remove it and run ropeway login")
	}
	if out.Profiles == nil {
		out.Profiles = map[string]Profile{}
	}
	return out, nil
}

// SaveProfile writes one profile with its token and makes it the current one.
// Both files are readable by this user only.
func SaveProfile(dir, name string, p Profile, token string) error {
	if dir == "" {
		return fault.Of("E_CONFIG").WithCause("this user has no configuration directory").
			WithFix("set HOME, or use ROPEWAY_URL, ROPEWAY_CA and ROPEWAY_TOKEN_FILE")
	}
	if !model.ValidName(name) {
		return fault.Of("E_CONFIG").WithCause("the profile name cannot be used")
	}
	all, err := LoadProfiles(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "tokens"), 0o700); err != nil {
		return fmt.Errorf("make profile directory: %w", err)
	}
	p.TokenFile = filepath.Join(dir, "tokens", name)
	if err := WritePrivate(p.TokenFile, []byte(token+"\n")); err != nil {
		return err
	}
	all.Current, all.Profiles[name] = name, p
	text, err := yaml.Marshal(all)
	if err != nil {
		return fmt.Errorf("encode profiles: %w", err)
	}
	return WritePrivate(filepath.Join(dir, "config.yaml"), text)
}

// WritePrivate writes a file that only this user can read (0600), whole or not
// at all.
func WritePrivate(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".ropeway-*") // CreateTemp makes it 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if e := f.Sync(); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Resolve fills in a configuration: flags before the environment before the
// profile. profile may be empty: the current one.
func Resolve(flags Config, profile string, env func(string) string) (Config, error) {
	pick := func(flag, variable, noted string) string {
		switch {
		case flag != "":
			return flag
		case env(variable) != "":
			return env(variable)
		}
		return noted
	}
	var noted Profile
	if env("ROPEWAY_URL") == "" && flags.URL == "" || profile != "" {
		all, err := LoadProfiles(ProfileDir())
		if err != nil {
			return flags, err
		}
		if profile == "" {
			profile = all.Current
		}
		found := false
		if noted, found = all.Profiles[profile]; !found && profile != "" {
			return flags, fault.Of("E_CONFIG").WithCause("there is no profile " + profile).WithFix("run ropeway login --profile " + profile)
		}
	}
	out := flags
	out.URL = pick(flags.URL, "ROPEWAY_URL", noted.URL)
	out.CA = pick(flags.CA, "ROPEWAY_CA", noted.CA)
	out.Environment = pick(flags.Environment, "ROPEWAY_ENVIRONMENT", noted.Environment)
	out.Token = env("ROPEWAY_TOKEN")
	out.TokenFile = pick(flags.TokenFile, "ROPEWAY_TOKEN_FILE", noted.TokenFile)
	if flags.TokenFile != "" {
		out.Token = ""
	}
	return out, nil
}
