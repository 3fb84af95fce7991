// Package odata connects SAP systems by OData, version 2 and 4: resumable reads
// of entity sets, imports by $batch with one change set per record, CSRF tokens,
// and SAP's error bodies as faults of single records. It knows OData and what
// SAP adds to it; it does not know pages beyond their cells, nor queues or
// policies.
package odata

import (
	"context"

	"ropeway/connectors"
	"ropeway/connectors/internal/httpapi"
	"ropeway/protocol/fault"
)

const name = "sap-odata"

// Type is the connector.
func Type() *connectors.Type {
	return &connectors.Type{
		Name:       name,
		Title:      "SAP OData",
		Settings:   settingsSchema(),
		Credential: httpapi.CredentialSchema(),
		Target:     target,
		Open: func(_ context.Context, env connectors.Env, s connectors.Settings) (connectors.Conn, error) {
			return open(env, s)
		},
		Ping: func(ctx context.Context, c connectors.Conn) error {
			return c.(*conn).ping(ctx)
		},
		Read: func(ctx context.Context, c connectors.Conn, q connectors.Query, after []byte,
			w *connectors.Writer) (connectors.ReadEnd, error) {
			return c.(*conn).read(ctx, q, after, w)
		},
		Import: func(ctx context.Context, c connectors.Conn, spec connectors.ImportSpec,
			in connectors.Batch) (connectors.Answer, error) {
			return c.(*conn).importBatch(ctx, spec, in)
		},
		ImportsOnce: importsOnce,
	}
}

// The words of the setting version.
const (
	auto = "auto"
	v2   = "v2"
	v4   = "v4"
)

func settingsSchema() connectors.Schema {
	return connectors.Schema{Fields: []connectors.Field{
		{Name: "url", Type: connectors.String, Required: true,
			Doc: "Address of the service root, such as https://sap.example.com:44300/sap/opu/odata/sap/ORDERS_SRV."},
		{Name: "version", Type: connectors.String, Default: auto, Enum: []string{auto, v2, v4},
			Doc: "Version of OData; auto takes what $metadata says."},
		{Name: "client", Type: connectors.String,
			Doc: "SAP client, three digits (sap-client)."},
		{Name: "language", Type: connectors.String,
			Doc: "Language of texts and messages, such as EN (sap-language)."},
		{Name: "ca", Type: connectors.PEM,
			Doc: "PEM certificates to trust instead of the system's."},
		{Name: "batch", Type: connectors.Int, Default: int64(100), Min: 1, Max: 1000,
			Doc: "Records written by one $batch request; 1 = without $batch."},
		{Name: "connectTimeout", Type: connectors.Duration, Default: "10s",
			Doc: "Longest time to connect."},
		{Name: "timeout", Type: connectors.Duration, Default: "2m",
			Doc: "Longest time of one request to the service."},
	}}
}

// target is "host:port" as written, with the port that the scheme has.
func target(s connectors.Settings) (string, error) {
	root, err := httpapi.ParseRoot(s.String("url"), "url")
	if err != nil {
		return "", err
	}
	if err := checkLogon(s); err != nil {
		return "", err
	}
	return httpapi.HostPort(root), nil
}

// checkLogon looks at what becomes a part of every address.
func checkLogon(s connectors.Settings) error {
	if client := s.String("client"); client != "" && (len(client) != 3 || !all(client, isDigit)) {
		return fault.Of("E_SETTINGS").WithField("client").WithCause("client must have three digits")
	}
	if language := s.String("language"); language != "" && (len(language) > 5 || !all(language, isTagByte)) {
		return fault.Of("E_SETTINGS").WithField("language").WithCause("language must be a code such as EN")
	}
	return nil
}

func all(text string, holds func(byte) bool) bool {
	for i := range len(text) {
		if !holds(text[i]) {
			return false
		}
	}
	return true
}

func isDigit(b byte) bool { return b >= '0' && b <= '9' }

func isTagByte(b byte) bool {
	return isDigit(b) || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '-'
}

// importsOnce: OData has no transaction that an inbox row could share, so the
// guarantee rests on the key.
func importsOnce(spec connectors.ImportSpec) connectors.Guarantee {
	switch spec.Mode {
	case connectors.Upsert, connectors.Update, connectors.Delete:
		return connectors.Guarantee{Level: connectors.EffectivelyOnce,
			Reason: "a record that comes twice finds its key and leaves the same state"}
	}
	return connectors.Guarantee{Level: connectors.AtLeastOnce,
		Reason: "OData has no inbox; a record that comes twice is created twice, or refused as a duplicate where it brings its key"}
}
