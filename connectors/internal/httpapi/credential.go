package httpapi

import (
	"context"
	"net/http"
	"strings"

	"ropeway/connectors"
	"ropeway/protocol/fault"
)

// CredentialSchema is the credential of an HTTP interface: user name and
// password (basic), or a bearer token.
func CredentialSchema() connectors.Schema {
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "username", Type: connectors.String, Doc: "Name of the user, for basic authentication."},
		{Name: "password", Type: connectors.String, Secret: true, Doc: "Password of the user."},
		{Name: "token", Type: connectors.String, Secret: true, Doc: "Bearer token, instead of user name and password."},
	}}
}

// authorize adds what the credential holds; a connection without one sends
// nothing. Secrets are fetched for each request and not kept.
func (c *Client) authorize(ctx context.Context, r *http.Request) error {
	if c.env.Secret == nil {
		return nil
	}
	secret, err := c.env.Secret(ctx)
	if err != nil {
		return err
	}
	user, password, token := secret["username"], secret["password"], secret["token"]
	for _, s := range []string{user, password, token} {
		if strings.ContainsAny(s, "\r\n\x00") {
			return badCredential("a field holds a line break")
		}
	}
	switch {
	case token != "" && user != "":
		return badCredential("it holds a token and a user name")
	case token != "":
		r.Header.Set("Authorization", "Bearer "+token)
	case strings.Contains(user, ":"):
		return badCredential("the user name holds a colon, which basic authentication cannot send")
	case user != "":
		r.SetBasicAuth(user, password)
	}
	return nil
}

func badCredential(cause string) error {
	return fault.Of("E_AUTH_REJECTED").WithSentence("the credential cannot be used").WithCause(cause)
}
