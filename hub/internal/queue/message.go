package queue

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

// ErrInvalid marks arguments that cannot be put on the queue at all.
var ErrInvalid = errors.New("not valid for the queue")

// Kind says what a message asks for.
type Kind string

// The kinds of messages. All of them take a slot of their connection.
const (
	KindRead  Kind = "read"  // the next read request of an export
	KindPage  Kind = "page"  // a page for a step of the connection
	KindProbe Kind = "probe" // ping, discover or preview
)

// maxName bounds a message's name and step in bytes.
const maxName = 512

// Message is one request or page that waits for a connection.
type Message struct {
	Place
	// Connection is where the work happens; a borrower's message keeps the
	// borrower's id.
	Connection page.ID
	// Name is the idempotence of the message: a second Publish of the same name
	// within two minutes is a no-op. Printable ASCII, at most 512 bytes.
	Name string
	Kind Kind
	Job  page.ID
	// Step is the step of the flow that shall work on the message.
	Step        string
	Flow        page.ID
	FlowVersion uint64
	// Attempt counts delayed retries, starting with 0.
	Attempt uint32
	// Body is opaque (sealed by the caller) and must not change after Publish.
	Body []byte
}

// Names of the headers. Every message on the stream is made in this package, so
// nothing from outside can set them.
const (
	headerFormat  = "Ropeway-Format"
	headerName    = "Ropeway-Name"
	headerKind    = "Ropeway-Kind"
	headerJob     = "Ropeway-Job"
	headerStep    = "Ropeway-Step"
	headerFlow    = "Ropeway-Flow"
	headerVersion = "Ropeway-Flow-Version"
	headerAttempt = "Ropeway-Attempt"

	messageFormat = "1"
)

func (m *Message) validate() error {
	if err := m.Place.valid(); err != nil {
		return err
	}
	if m.Connection.IsZero() {
		return fmt.Errorf("message without a connection: %w", ErrInvalid)
	}
	switch m.Kind {
	case KindRead, KindPage, KindProbe:
	default:
		return fmt.Errorf("message of kind %q: %w", m.Kind, ErrInvalid)
	}
	if m.Name == "" || !printable(m.Name) {
		return fmt.Errorf("message name %q: %w", clip(m.Name), ErrInvalid)
	}
	if !printable(m.Step) {
		return fmt.Errorf("message step %q: %w", clip(m.Step), ErrInvalid)
	}
	return nil
}

// printable reports whether s is short, visible ASCII: nothing that could end a
// header line or hide in one.
func printable(s string) bool {
	if len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func clip(s string) string { return s[:min(len(s), 64)] }

// encode turns m into a message for subject, without a Msg-Id.
func (m *Message) encode(subject string) (*nats.Msg, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	out := nats.NewMsg(subject)
	out.Header[headerFormat] = []string{messageFormat}
	out.Header[headerName] = []string{m.Name}
	out.Header[headerKind] = []string{string(m.Kind)}
	out.Header[headerAttempt] = []string{strconv.FormatUint(uint64(m.Attempt), 10)}
	if !m.Job.IsZero() {
		out.Header[headerJob] = []string{m.Job.String()}
	}
	if m.Step != "" {
		out.Header[headerStep] = []string{m.Step}
	}
	if !m.Flow.IsZero() {
		out.Header[headerFlow] = []string{m.Flow.String()}
		out.Header[headerVersion] = []string{strconv.FormatUint(m.FlowVersion, 10)}
	}
	out.Data = m.Body
	if size := out.Size() + headerReserve; size > MaxMessage {
		return nil, tooLarge(m.Name, size)
	}
	return out, nil
}

// headerReserve is room for the headers that publishing adds.
const headerReserve = 2 << 10

func tooLarge(name string, size int) error {
	return fault.New(fault.TooLarge, "E_TOO_LARGE", "the message is too large for the queue").
		WithCause(fmt.Sprintf("%s has %d bytes, the limit is %d", name, size, MaxMessage))
}

// decode is the inverse of encode for a message that came from subject.
func decode(subject string, h nats.Header, body []byte) (Message, error) {
	place, connection, err := parsePageSubject(subject)
	if err != nil {
		return Message{}, err
	}
	if f := first(h, headerFormat); f != messageFormat {
		return Message{}, fmt.Errorf("read message of format %q on %s: %w", f, subject, ErrInvalid)
	}
	m := Message{
		Place: place, Connection: connection, Name: first(h, headerName),
		Kind: Kind(first(h, headerKind)), Step: first(h, headerStep), Body: body,
	}
	attempt, err := strconv.ParseUint(first(h, headerAttempt), 10, 32)
	if err != nil {
		return Message{}, fmt.Errorf("read attempt of %s: %w", subject, ErrInvalid)
	}
	m.Attempt = uint32(attempt)
	if err := m.decodeOrigin(h); err != nil {
		return Message{}, fmt.Errorf("read %s: %w", subject, err)
	}
	return m, m.validate()
}

func (m *Message) decodeOrigin(h nats.Header) error {
	var err error
	if s := first(h, headerJob); s != "" {
		if m.Job, err = page.ParseID(s); err != nil {
			return fmt.Errorf("job: %w", err)
		}
	}
	s := first(h, headerFlow)
	if s == "" {
		return nil
	}
	if m.Flow, err = page.ParseID(s); err != nil {
		return fmt.Errorf("flow: %w", err)
	}
	if m.FlowVersion, err = strconv.ParseUint(first(h, headerVersion), 10, 64); err != nil {
		return fmt.Errorf("flow version: %w", err)
	}
	return nil
}

func first(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
