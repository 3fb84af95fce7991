package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ropeway/certs"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// Facts are what enrollment said about this agent. Identity itself comes from the
// certificate; these are where the hub is and how things are called.
type Facts struct {
	Hub             string    `json:"hub"` // https://host[:port]
	Name            string    `json:"name"`
	Tenant          page.ID   `json:"tenant"`
	TenantName      string    `json:"tenantName"`
	Environment     page.ID   `json:"environment"`
	EnvironmentName string    `json:"environmentName"`
	Group           page.ID   `json:"group"`
	GroupName       string    `json:"groupName"`
	Enrolled        time.Time `json:"enrolled"`
}

// An Identity is the enrolled agent. It is safe for concurrent use; Install
// changes the certificate of connections made from then on.
type Identity struct {
	dir   string
	facts Facts

	mu     sync.RWMutex // guards the fields below
	id     certs.Identity
	cert   tls.Certificate
	root   *x509.Certificate
	rootID string
}

// Load reads the identity from dir. E_NOT_ENROLLED says that there is none yet.
func Load(dir string) (*Identity, error) {
	if err := Check(dir); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, notEnrolled(dir)
		}
		return nil, err
	}
	key, chain, err := readBundle(filepath.Join(dir, bundleFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err != nil || len(chain) == 0 {
		return nil, notEnrolled(dir)
	}
	i := &Identity{dir: dir}
	if i.facts, err = readFacts(dir); err != nil {
		return nil, err
	}
	if err := i.set(key, chain); err != nil {
		return nil, stateFault(filepath.Join(dir, bundleFile), err)
	}
	if i.id.Tenant != i.facts.Tenant || i.id.Environment != i.facts.Environment {
		return nil, stateFault(dir, errors.New("an enrollment was interrupted; enroll again"))
	}
	return i, nil
}

// Key returns the key of the state directory, making one (ECDSA P-256) when there
// is none. Asking again gives the same key, so that an enrollment whose answer
// was lost can be repeated.
func Key(dir string) (crypto.Signer, error) {
	path := filepath.Join(dir, bundleFile)
	key, _, err := readBundle(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	return key, err
}

// NextKey returns the key of a rotation, making one when none has begun. It is
// kept until Install finishes the rotation.
func NextKey(dir string) (crypto.Signer, error) {
	path := filepath.Join(dir, nextFile)
	key, _, err := readBundle(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	return key, err
}

// Enrolled stores the result of an enrollment: the certificate chain and root (as
// PEM text) of key, and the facts. The caller has verified them.
func Enrolled(dir string, key crypto.Signer, chain, root []byte, facts Facts) (*Identity, error) {
	text, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode enrollment: %w", err)
	}
	if err := writePrivate(filepath.Join(dir, factsFile), append(text, '\n')); err != nil {
		return nil, err
	}
	if err := writeBundle(dir, key, chain, root); err != nil {
		return nil, err
	}
	return Load(dir)
}

// Install replaces certificate and key, which may be the same key. The old ones
// stay usable when it fails. The new certificate must speak for the same agent.
func (i *Identity) Install(key crypto.Signer, chain, root []byte) error {
	list, err := certs.ParseChain(append(append([]byte{}, chain...), root...))
	if err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	if id, err := certs.ParseIdentity(list[0]); err != nil || id != i.ID() {
		return fmt.Errorf("install certificate: it does not speak for agent %s", i.ID().Agent)
	}
	if err := writeBundle(i.dir, key, chain, root); err != nil {
		return err
	}
	if err := i.set(key, list); err != nil {
		return fmt.Errorf("install certificate: %w", err)
	}
	err = os.Remove(filepath.Join(i.dir, nextFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return stateFault(i.dir, err)
	}
	return nil
}

// set takes key and chain (leaf, intermediates, root) into use.
func (i *Identity) set(key crypto.Signer, chain []*x509.Certificate) error {
	if key == nil || len(chain) < 3 {
		return errors.New("key, certificate, intermediate or root is missing")
	}
	id, err := certs.ParseIdentity(chain[0])
	if err != nil {
		return err
	}
	root := chain[len(chain)-1]
	domain, err := certs.TrustDomain(root)
	if err != nil {
		return err
	}
	if domain != id.TrustDomain {
		return errors.New("certificate and root are of different trust domains")
	}
	cert := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain[:len(chain)-1] {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.id, i.cert, i.root, i.rootID = id, cert, root, certs.Pin(root)
	return nil
}

// Facts returns what enrollment said.
func (i *Identity) Facts() Facts { return i.facts }

// ID is who the certificate speaks for.
func (i *Identity) ID() certs.Identity {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.id
}

// Certificate is the current certificate with its key.
func (i *Identity) Certificate() tls.Certificate {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.cert
}

// ClientCertificate is a certs.ClientCertificate that follows renewals.
func (i *Identity) ClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert := i.Certificate()
	return &cert, nil
}

// Roots is a pool of the hub's root only.
func (i *Identity) Roots() *x509.CertPool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	pool := x509.NewCertPool()
	pool.AddCert(i.root)
	return pool
}

// TrustDomain is the hub's trust domain.
func (i *Identity) TrustDomain() string { return i.ID().TrustDomain }

// Pin is the pin of the hub's root.
func (i *Identity) Pin() string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.rootID
}

// Serial is the serial number of the certificate in hex.
func (i *Identity) Serial() string { return i.leaf().SerialNumber.Text(16) }

// NotAfter is the end of the certificate.
func (i *Identity) NotAfter() time.Time { return i.leaf().NotAfter }

// Fingerprint is the SHA-256 of the certificate in hex, for people to compare.
func (i *Identity) Fingerprint() string {
	sum := sha256.Sum256(i.leaf().Raw)
	return hex.EncodeToString(sum[:])
}

// NextRenewal is when the certificate should be renewed: half of its life, moved
// by up to a tenth of it either way. The same certificate gives the same moment,
// and a fleet that enrolled together does not renew together.
func (i *Identity) NextRenewal() time.Time {
	leaf := i.leaf()
	life := leaf.NotAfter.Sub(leaf.NotBefore.Add(certs.Backdate))
	sum := sha256.Sum256(leaf.Raw)
	part := time.Duration(int(sum[0])<<8|int(sum[1])) - 1<<15 // -32768 … 32767
	jitter := life / 10 * part / (1 << 15)
	return leaf.NotAfter.Add(-life/2 + jitter)
}

func (i *Identity) leaf() *x509.Certificate { return i.Certificate().Leaf }

func makeKey(path string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	text, err := certs.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePrivate(path, text)
}

func readBundle(path string) (crypto.Signer, []*x509.Certificate, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, nil, err
	}
	key, chain, err := certs.ParseBundle(text)
	if err == nil && key == nil {
		err = errors.New("it holds no private key")
	}
	if err != nil {
		return nil, nil, stateFault(path, err)
	}
	return key, chain, nil
}

func writeBundle(dir string, key crypto.Signer, chain, root []byte) error {
	text, err := certs.EncodeKey(key)
	if err != nil {
		return err
	}
	text = append(append(text, chain...), root...)
	if _, _, err := certs.ParseBundle(text); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return writePrivate(filepath.Join(dir, bundleFile), text)
}

func readFacts(dir string) (Facts, error) {
	var facts Facts
	path := filepath.Join(dir, factsFile)
	text, err := readPrivate(path)
	if err == nil {
		err = json.Unmarshal(text, &facts)
	}
	if err != nil {
		return Facts{}, stateFault(path, err)
	}
	return facts, nil
}

func notEnrolled(dir string) error {
	return fault.Of("E_NOT_ENROLLED").WithCause(fmt.Sprintf("%s holds no certificate", dir)).
		WithFix("run `ropeway-agent enroll --token-file FILE --state " + dir + "`")
}
