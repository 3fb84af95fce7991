// Package enroll is the wire of ropeway-enroll/1: how an agent trades a one-time
// token for its first certificate and a certificate for the next one. It owns the
// token's text, one bounded question and answer over TLS, and both ends of it; it
// knows neither how tokens are kept nor how certificates are signed.
package enroll

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const (
	tokenPrefix = "rwt1."
	maxToken    = 4 << 10
	secretSize  = 32
)

// A Token lets one agent enroll once. It says where the hub is and which root key
// the hub must prove, so that the secret is never sent to anybody else.
type Token struct {
	Hub    string // https://host[:port]
	Pin    string // SHA-256 of the hub root's public key, hex
	Secret Secret
}

// A Secret is the part of a token that counts. It prints as ***.
type Secret [secretSize]byte

// NewSecret makes a random secret.
func NewSecret() Secret {
	var s Secret
	_, _ = rand.Read(s[:]) // never fails since Go 1.24
	return s
}

// Hash is what a hub keeps of a secret.
func (s Secret) Hash() [32]byte { return sha256.Sum256(s[:]) }

// String hides the secret.
func (Secret) String() string { return "***" }

// Format hides the secret from every verb of package fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// LogValue hides the secret from logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

type tokenBody struct {
	Hub    string `json:"hub"`
	Pin    string `json:"pin"`
	Secret []byte `json:"secret"`
}

// Text is what an operator hands to the site: "rwt1." and base64url of JSON. It
// holds the secret; write it to a file (0600) or standard output only.
func (t Token) Text() string {
	body, _ := json.Marshal(tokenBody{t.Hub, t.Pin, t.Secret[:]}) // plain fields cannot fail
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(body)
}

// ParseToken reads the text of a token; white space around it is ignored. Errors
// never quote the text.
func ParseToken(text string) (Token, error) {
	if len(text) > maxToken {
		return Token{}, badToken(fmt.Sprintf("it has %d bytes, a token has less than %d", len(text), maxToken))
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return Token{}, badToken("it is empty")
	}
	encoded, found := strings.CutPrefix(text, tokenPrefix)
	if !found {
		return Token{}, badToken("it does not begin with " + tokenPrefix)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Token{}, badToken("it is cut off or changed (not base64url)")
	}
	var body tokenBody
	if err := strictJSON(raw, &body); err != nil {
		return Token{}, badToken("it is cut off or changed (not JSON)")
	}
	return body.token()
}

func (b tokenBody) token() (Token, error) {
	if pin, err := hex.DecodeString(b.Pin); err != nil || len(pin) != sha256.Size || b.Pin != strings.ToLower(b.Pin) {
		return Token{}, badToken("its pin is not a SHA-256 in hex")
	}
	if len(b.Secret) != secretSize {
		return Token{}, badToken("its secret has the wrong length")
	}
	if _, err := Address(b.Hub); err != nil {
		return Token{}, badToken("its hub URL is not https://host[:port]")
	}
	return Token{Hub: b.Hub, Pin: b.Pin, Secret: Secret(b.Secret)}, nil
}

// strictJSON decodes exactly one JSON value without unknown fields.
func strictJSON(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}
