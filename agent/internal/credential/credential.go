// Package credential keeps the secrets of custody `site`: the hub knows only
// their names. They lie in one sealed file in the state directory, with the key
// in a file apart (0600). It knows neither connections nor the hub.
package credential

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"ropeway/protocol/fault"
)

const (
	sealedFile = "credentials.sealed"
	keyFile    = "credentials.key"
	lockFile   = "credentials.lock"
	keySize    = 32
	maxFile    = 4 << 20
	maxFields  = 64
	maxValue   = 64 << 10
)

// aad binds the file to its purpose and format.
var aad = []byte("ropeway-agent credentials 1")

var (
	nameRule  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	fieldRule = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,62}$`)
)

// A Store reads and writes the credentials of one state directory. Several
// processes may use it at once; every call sees what the last Set or Remove left.
type Store struct{ dir string }

// Open returns the store of a state directory that exists.
func Open(dir string) *Store { return &Store{dir} }

// Info is what may be shown of a credential.
type Info struct {
	Name    string    `json:"name"`
	Fields  []string  `json:"fields"` // names, sorted
	Updated time.Time `json:"updated"`
}

type entry struct {
	Fields  map[string]string `json:"fields"`
	Updated time.Time         `json:"updated"`
}

// Set creates or replaces a credential.
func (s *Store) Set(name string, fields map[string]string, now time.Time) error {
	if err := check(name, fields); err != nil {
		return err
	}
	return s.change(func(all map[string]entry) error {
		all[name] = entry{fields, now.UTC().Truncate(time.Second)}
		return nil
	})
}

// Remove deletes a credential; E_NOT_FOUND says that there is none.
func (s *Store) Remove(name string) error {
	return s.change(func(all map[string]entry) error {
		if _, ok := all[name]; !ok {
			return fault.Of("E_NOT_FOUND").WithCause(fmt.Sprintf("no credential %.100q is kept here", name)).
				WithFix("see `ropeway-agent credentials list`")
		}
		delete(all, name)
		return nil
	})
}

// List shows what is kept, by name.
func (s *Store) List() ([]Info, error) {
	all, err := s.read()
	if err != nil {
		return nil, err
	}
	list := make([]Info, 0, len(all))
	for name, e := range all {
		info := Info{Name: name, Updated: e.Updated, Fields: []string{}}
		for field := range e.Fields {
			info.Fields = append(info.Fields, field)
		}
		slices.Sort(info.Fields)
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Fields returns the secret fields of a credential; E_NO_CREDENTIAL says that
// the site keeps none of this name.
func (s *Store) Fields(name string) (map[string]string, error) {
	all, err := s.read()
	if err != nil {
		return nil, err
	}
	e, ok := all[name]
	if !ok {
		return nil, fault.Of("E_NO_CREDENTIAL").WithCause(fmt.Sprintf("the site keeps no credential %.100q", name)).
			WithFix(fmt.Sprintf("run `ropeway-agent credentials set %.100s --file -` at the agent", name))
	}
	return e.Fields, nil
}

func check(name string, fields map[string]string) error {
	bad := func(cause string) error { return fault.Of("E_REQUEST").WithCause(cause) }
	if !nameRule.MatchString(name) {
		return bad("a credential's name has 1 to 63 letters, digits, dots, dashes or underscores")
	}
	if len(fields) == 0 || len(fields) > maxFields {
		return bad(fmt.Sprintf("a credential has 1 to %d fields", maxFields))
	}
	for field, value := range fields {
		if !fieldRule.MatchString(field) {
			return bad(fmt.Sprintf("%.80q is no name of a field", field))
		}
		if len(value) > maxValue {
			return bad(fmt.Sprintf("field %s is longer than %d bytes", field, maxValue))
		}
	}
	return nil
}

// change runs one read-change-write alone among all processes.
func (s *Store) change(edit func(map[string]entry) error) error {
	unlock, err := lock(filepath.Join(s.dir, lockFile))
	if err != nil {
		return s.fault(err)
	}
	defer unlock()
	all, err := s.read()
	if err != nil {
		return err
	}
	if err := edit(all); err != nil {
		return err
	}
	return s.write(all)
}

func (s *Store) read() (map[string]entry, error) {
	all := map[string]entry{}
	sealed, err := readBounded(filepath.Join(s.dir, sealedFile), maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, s.fault(err)
	}
	aead, err := s.cipher(false)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, sealed, aad)
	if err == nil {
		err = json.Unmarshal(plain, &all)
	}
	if err != nil {
		return nil, fault.Of("E_SEALED").WithCause("the credentials file does not open with its key").
			WithFix("restore " + keyFile + ", or remove " + sealedFile + " and set the credentials again")
	}
	return all, nil
}

func (s *Store) write(all map[string]entry) error {
	aead, err := s.cipher(true)
	if err != nil {
		return err
	}
	plain, err := json.Marshal(all)
	if err != nil {
		return errors.New("encode credentials") // the cause might hold a secret
	}
	if len(plain) > maxFile-1024 {
		return fault.Of("E_REQUEST").WithCause("all credentials together are larger than 4 MiB")
	}
	if err := replace(filepath.Join(s.dir, sealedFile), aead.Seal(nil, nil, plain, aad)); err != nil {
		return s.fault(err)
	}
	return nil
}

// cipher opens with the key file, made when it may be and is missing.
func (s *Store) cipher(mayMake bool) (cipher.AEAD, error) {
	path := filepath.Join(s.dir, keyFile)
	key, err := readBounded(path, keySize)
	if errors.Is(err, os.ErrNotExist) && mayMake {
		key = make([]byte, keySize)
		_, _ = rand.Read(key) // never fails since Go 1.24
		err = replace(path, key)
	}
	if err == nil && len(key) != keySize {
		err = fmt.Errorf("%s has %d bytes, not %d", keyFile, len(key), keySize)
	}
	if err != nil {
		return nil, s.fault(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, s.fault(err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s *Store) fault(err error) error {
	if f := (*fault.Error)(nil); errors.As(err, &f) {
		return f
	}
	return fault.Of("E_STATE").WithSentence("the site's credentials cannot be used").WithCause(err)
}
