package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"

	"ropeway/protocol/fault"
)

// A Client speaks to the agent behind one socket.
type Client struct {
	path string
	http *http.Client
}

// Connect makes a client for the socket at path. Nothing is dialled yet.
func Connect(path string) *Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
	}
	return &Client{path: path, http: &http.Client{Transport: transport}}
}

// Close frees idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks for everything `ropeway-agent status` shows.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, nil, "/v1/status")
}

// Identity asks who the agent is.
func (c *Client) Identity(ctx context.Context) (IdentityStatus, error) {
	return call[IdentityStatus](ctx, c, nil, "/v1/identity")
}

// Policy asks which policy is in force.
func (c *Client) Policy(ctx context.Context) (Policy, error) {
	return call[Policy](ctx, c, nil, "/v1/policy")
}

// BufferStatus asks what waits on disk.
func (c *Client) BufferStatus(ctx context.Context) (BufferStatus, error) {
	return call[BufferStatus](ctx, c, nil, "/v1/buffer")
}

// BufferList asks for the oldest pages on disk.
func (c *Client) BufferList(ctx context.Context) ([]BufferPage, error) {
	return call[[]BufferPage](ctx, c, nil, "/v1/buffer/pages")
}

// BufferVerify has every page on disk checked.
func (c *Client) BufferVerify(ctx context.Context) (BufferCheck, error) {
	return call[BufferCheck](ctx, c, none{}, "/v1/buffer/verify")
}

// BufferPurge deletes pages on disk.
func (c *Client) BufferPurge(ctx context.Context, r PurgeRequest) (BufferPurge, error) {
	return call[BufferPurge](ctx, c, r, "/v1/buffer/purge")
}

// Suspend has everything denied, or lets the policy decide again.
func (c *Client) Suspend(ctx context.Context, on bool) error {
	path := "/v1/policy/resume"
	if on {
		path = "/v1/policy/suspend"
	}
	_, err := call[none](ctx, c, none{}, path)
	return err
}

// Approve lets a waiting statement run, by its hash.
func (c *Client) Approve(ctx context.Context, hash string) (Statement, error) {
	return call[Statement](ctx, c, ApproveRequest{hash}, "/v1/policy/approve")
}

// RotateKey has the agent make a new key and get a certificate for it.
func (c *Client) RotateKey(ctx context.Context) (IdentityStatus, error) {
	return call[IdentityStatus](ctx, c, none{}, "/v1/rotate-key")
}

// Drain has the agent finish what runs and end.
func (c *Client) Drain(ctx context.Context) error {
	_, err := call[none](ctx, c, none{}, "/v1/drain")
	return err
}

// ErrNotRunning says that nothing listens on the socket.
var ErrNotRunning = errors.New("no agent is running")

// call sends send as JSON with POST, or asks with GET when send is nil.
func call[T any](ctx context.Context, c *Client, send any, path string) (T, error) {
	var zero T
	method, body := http.MethodGet, []byte(nil)
	if send != nil {
		var err error
		if body, err = json.Marshal(send); err != nil {
			return zero, fmt.Errorf("ask agent: %w", err)
		}
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, bytes.NewReader(body))
	if err != nil {
		return zero, fmt.Errorf("ask agent: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return zero, c.failed(err)
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(io.LimitReader(response.Body, 16<<20))
	if response.StatusCode != http.StatusOK {
		f := new(fault.Error)
		if err := decoder.Decode(f); err != nil {
			return zero, fmt.Errorf("agent answers %s", response.Status)
		}
		return zero, f
	}
	if err := decoder.Decode(&zero); err != nil {
		return zero, fmt.Errorf("read answer of agent: %w", err)
	}
	return zero, nil
}

func (c *Client) failed(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fault.New(fault.Connection, "E_AGENT_DOWN", "no agent is running here").
			WithCause("nothing listens on " + c.path).Wrap(ErrNotRunning).
			WithFix("start it with `ropeway-agent run`, or name its state directory with --state")
	case errors.Is(err, os.ErrPermission):
		return fault.Of("E_FORBIDDEN").WithCause("this user may not open " + c.path).Wrap(err).
			WithFix("run the command as the user of the agent")
	}
	return fault.New(fault.Connection, "E_AGENT_DOWN", "the agent does not answer").WithCause(err)
}
