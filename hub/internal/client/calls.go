package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"ropeway/hub/internal/model"
)

const v1 = "/api/v1/"

// at joins path segments, each escaped.
func at(segments ...string) string {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = url.PathEscape(s)
	}
	return v1 + strings.Join(escaped, "/")
}

func (c *Client) get(ctx context.Context, path string, query url.Values, out any) error {
	return c.do(ctx, request{method: http.MethodGet, path: path, query: query}, out)
}

func (c *Client) post(ctx context.Context, path string, body, out any) error {
	r := request{method: http.MethodPost, path: path}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r.body, r.contentType = b, "application/json"
	}
	return c.do(ctx, r, out)
}

// every collects all pieces of a list; limit 0 = no limit.
func every[T any](ctx context.Context, c *Client, path string, query url.Values, limit int) ([]T, error) {
	out := []T{}
	if query == nil {
		query = url.Values{}
	}
	for {
		if size := limit - len(out); limit > 0 && size < 500 {
			query.Set("limit", strconv.Itoa(size))
		} else {
			query.Set("limit", "500")
		}
		var piece struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		if err := c.get(ctx, path, query, &piece); err != nil {
			return nil, err
		}
		out = append(out, piece.Items...)
		if piece.Next == "" || limit > 0 && len(out) >= limit {
			return out, nil
		}
		query.Set("cursor", piece.Next)
	}
}

// Apply creates or changes a set of objects, all or none.
func (c *Client) Apply(ctx context.Context, manifests []byte, dryRun bool) (out model.ApplyResult, err error) {
	query := url.Values{}
	if dryRun {
		query.Set("dryRun", "true")
	}
	err = c.do(ctx, request{method: http.MethodPost, path: at("apply"), query: query, body: manifests,
		contentType: "application/yaml"}, &out)
	return out, err
}

// KindPath is the path segment of a kind.
func KindPath(k model.Kind) string {
	if k == model.KindAgentGroup {
		return "agent-groups"
	}
	return strings.ToLower(string(k)) + "s"
}

// Objects lists the objects of a kind.
func (c *Client) Objects(ctx context.Context, kind model.Kind, label string) ([]model.Object, error) {
	query := url.Values{}
	if label != "" {
		query.Set("label", label)
	}
	return every[model.Object](ctx, c, at(KindPath(kind)), query, 0)
}

// Object shows one object.
func (c *Client) Object(ctx context.Context, kind model.Kind, name string) (out model.Object, err error) {
	return out, c.get(ctx, at(KindPath(kind), name), nil, &out)
}

// Delete deletes one object; purge also drops what is queued and parked.
func (c *Client) Delete(ctx context.Context, kind model.Kind, name string, purge bool) error {
	query := url.Values{}
	if purge {
		query.Set("purge", "true")
	}
	return c.do(ctx, request{method: http.MethodDelete, path: at(KindPath(kind), name), query: query}, nil)
}

// SetSecret sets the value of a credential: one JSON object of texts.
func (c *Client) SetSecret(ctx context.Context, name string, value []byte) (out model.SecretInfo, err error) {
	err = c.do(ctx, request{method: http.MethodPut, path: at("credentials", name, "secret"), body: value,
		contentType: "application/json"}, &out)
	return out, err
}

// Secrets lists which credentials have a value.
func (c *Client) Secrets(ctx context.Context) ([]model.SecretInfo, error) {
	var out struct {
		Items []model.SecretInfo `json:"items"`
	}
	err := c.get(ctx, at("secrets"), nil, &out)
	return out.Items, err
}

// AgentToken makes a one-time enrollment token for a group.
func (c *Client) AgentToken(ctx context.Context, group string, o model.TokenOptions) (out model.Token, err error) {
	return out, c.post(ctx, at("agent-groups", group, "tokens"), o, &out)
}

// Agents lists the agents.
func (c *Client) Agents(ctx context.Context) ([]model.Agent, error) {
	var out struct {
		Items []model.Agent `json:"items"`
	}
	err := c.get(ctx, at("agents"), nil, &out)
	return out.Items, err
}

// Agent shows one agent.
func (c *Client) Agent(ctx context.Context, name string) (out model.Agent, err error) {
	return out, c.get(ctx, at("agents", name), nil, &out)
}

// RevokeAgent revokes the identity of an agent for ever.
func (c *Client) RevokeAgent(ctx context.Context, name string) (out model.Agent, err error) {
	return out, c.post(ctx, at("agents", name, "revoke"), nil, &out)
}

// RunFlow starts a job.
func (c *Client) RunFlow(ctx context.Context, name string) (out model.Job, err error) {
	return out, c.post(ctx, at("flows", name, "run"), nil, &out)
}

// Jobs lists jobs, newest first.
func (c *Client) Jobs(ctx context.Context, flow, state string, limit int) ([]model.Job, error) {
	return every[model.Job](ctx, c, at("jobs"), filter("flow", flow, "state", state), limit)
}

func filter(pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}

// Job shows one job.
func (c *Client) Job(ctx context.Context, id string) (out model.Job, err error) {
	return out, c.get(ctx, at("jobs", id), nil, &out)
}

// CancelJob ends a job.
func (c *Client) CancelJob(ctx context.Context, id string) (out model.Job, err error) {
	return out, c.post(ctx, at("jobs", id, "cancel"), nil, &out)
}

// Prove shows whether the sums of a job close.
func (c *Client) Prove(ctx context.Context, id string) (out model.Proof, err error) {
	return out, c.get(ctx, at("jobs", id, "proof"), nil, &out)
}

// Parked lists parked records.
func (c *Client) Parked(ctx context.Context, flow, job, state string, limit int) ([]model.ParkedRecord, error) {
	return every[model.ParkedRecord](ctx, c, at("parked"), filter("flow", flow, "job", job, "state", state), limit)
}

// ParkedRecord shows one parked record with its contents.
func (c *Client) ParkedRecord(ctx context.Context, id string) (out model.ParkedRecord, err error) {
	return out, c.get(ctx, at("parked", id), nil, &out)
}

// EditParked replaces the contents of a parked record.
func (c *Client) EditParked(ctx context.Context, id string, record []byte) (out model.ParkedRecord, err error) {
	err = c.do(ctx, request{method: http.MethodPut, path: at("parked", id, "record"), body: record,
		contentType: "application/json"}, &out)
	return out, err
}

// RetryParked retries parked records in a new job.
func (c *Client) RetryParked(ctx context.Context, r model.Retry) (out model.RetryResult, err error) {
	return out, c.post(ctx, at("parked", "retry"), r, &out)
}

// Queue shows the queue and state of a connection.
func (c *Client) Queue(ctx context.Context, name string) (out model.ConnectionQueue, err error) {
	return out, c.get(ctx, at("connections", name, "queue"), nil, &out)
}

// Ping tries whether a connection works.
func (c *Client) Ping(ctx context.Context, name string) (out model.PingResult, err error) {
	return out, c.post(ctx, at("connections", name, "ping"), nil, &out)
}

// PauseConnection takes a connection offline by hand.
func (c *Client) PauseConnection(ctx context.Context, name string) (out model.ConnectionQueue, err error) {
	return out, c.post(ctx, at("connections", name, "pause"), nil, &out)
}

// ResumeConnection takes a connection online again.
func (c *Client) ResumeConnection(ctx context.Context, name string) (out model.ConnectionQueue, err error) {
	return out, c.post(ctx, at("connections", name, "resume"), nil, &out)
}

// Audit lists the audit log, newest first.
func (c *Client) Audit(ctx context.Context, limit int) ([]model.AuditRow, error) {
	return every[model.AuditRow](ctx, c, at("audit"), nil, limit)
}

// VerifyAudit checks that nothing in the audit log was changed.
func (c *Client) VerifyAudit(ctx context.Context) (out model.AuditCheck, err error) {
	return out, c.get(ctx, at("audit", "verify"), nil, &out)
}

// ServerVersion says what the hub runs.
func (c *Client) ServerVersion(ctx context.Context) (out model.VersionInfo, err error) {
	return out, c.get(ctx, at("version"), nil, &out)
}

// WhoAmI says who the token belongs to.
func (c *Client) WhoAmI(ctx context.Context) (out model.WhoAmI, err error) {
	return out, c.get(ctx, at("me"), nil, &out)
}
