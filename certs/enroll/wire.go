package enroll

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"ropeway/protocol/fault"
)

// One question and one answer travel over a connection, each as a 4-byte
// big-endian length and that many bytes of JSON.
const (
	wireVersion = 1
	maxQuestion = 32 << 10
	maxAnswer   = 128 << 10
)

type question struct {
	Version  int    `json:"version"`
	Kind     string `json:"kind"` // enroll | renew
	Secret   []byte `json:"secret,omitempty"`
	CSR      string `json:"csr"`
	Name     string `json:"name,omitempty"`
	Hostname string `json:"hostname,omitempty"`
	Software string `json:"software,omitempty"` // version of the agent's program
}

const (
	kindEnroll = "enroll"
	kindRenew  = "renew"
)

type answer struct {
	Grant *Grant       `json:"grant,omitempty"`
	Fault *fault.Error `json:"fault,omitempty"`
}

func writeMessage(w io.Writer, v any, limit int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(body) > limit {
		return fmt.Errorf("message of %d bytes is longer than %d", len(body), limit)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(frame, body...))
	return err
}

// readMessage reads one message. Unknown fields are ignored, so that a newer peer
// may say more; what must be understood is guarded by the version.
func readMessage(r io.Reader, v any, limit int) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 || length > uint32(limit) {
		return fmt.Errorf("message says it has %d bytes, allowed are 1 to %d", length, limit)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("message is not the JSON that was expected: %w", err)
	}
	return nil
}
