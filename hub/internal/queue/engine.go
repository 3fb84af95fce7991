package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// startTimeout bounds the recovery of the streams at start.
const startTimeout = 5 * time.Minute

// engine is the embedded nats-server. It listens on no port: clients reach it
// through pipes in this process, so nobody else can hold a message, and every
// consumer is made by this process (lanes keeps what that implies).
type engine struct {
	config Config
	log    *slog.Logger
	lock   *os.File
	gens   *generations
	lanes  *lanes
	space  *space
	names  *names
	mute   *mute

	mu     sync.RWMutex
	server *server.Server // nil while stopped
}

// errStopped is what a client sees while the engine restarts or has ended.
var errStopped = errors.New("queue engine is stopped")

func startEngine(c Config) (*engine, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := syncDir(filepath.Dir(filepath.Clean(c.Dir))); err != nil {
		return nil, fmt.Errorf("sync folder: %w", err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, err
	}
	e := &engine{
		config: c, log: c.Log, lock: lock, lanes: newLanes(), space: newSpace(c), names: newNames(c), mute: newMute(),
	}
	if e.gens, err = openGenerations(filepath.Join(c.Dir, "generation")); err != nil {
		lock.Close()
		return nil, err
	}
	if err := e.start(); err != nil {
		lock.Close()
		return nil, err
	}
	return e, nil
}

// lockDir refuses a second process on the same folder: the engine itself does
// not, and two of them would destroy each other's files.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s (another hub uses this folder): %w", path, err)
	}
	return f, nil
}

func (e *engine) options() *server.Options {
	return &server.Options{
		ServerName:      "ropeway",
		DontListen:      true,
		NoSigs:          true,
		MaxPayload:      MaxMessage,
		JetStream:       true,
		StoreDir:        engineDir(e.config),
		SyncAlways:      e.config.SyncAlways,
		JetStreamLimits: server.JSLimitOpts{DefaultMaxConsumers: -1},
		// The engine's own idea of a full disk is taken once at start and would
		// refuse pages for ever; the space guard of this package decides.
		JetStreamMaxStore:  1 << 60,
		JetStreamMaxMemory: 64 << 20,
	}
}

func (e *engine) start() error {
	opts := e.options()
	s, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make engine: %w", err)
	}
	s.SetLoggerV2(engineLog{e.log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startTimeout) {
		s.Shutdown()
		return errors.New("start engine: not ready in time")
	}
	if err := assertServer(s, opts); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return err
	}
	e.mu.Lock()
	e.server = s
	e.mu.Unlock()
	return nil
}

// assertServer reads back what the delivery promise rests on (DELIVERY §5).
func assertServer(s *server.Server, want *server.Options) error {
	if !s.JetStreamEnabled() {
		return errors.New("start engine: its storage is not enabled")
	}
	got := s.JetStreamConfig()
	switch {
	case got == nil:
		return errors.New("start engine: its storage has no settings")
	case got.SyncAlways != want.SyncAlways:
		return fmt.Errorf("start engine: SyncAlways is %t", got.SyncAlways)
	case s.Addr() != nil:
		return fmt.Errorf("start engine: it listens on %s", s.Addr())
	}
	return nil
}

// InProcessConn connects a client to the engine as it is now; clients call it
// again whenever they reconnect, so it also reaches a restarted engine.
func (e *engine) InProcessConn() (net.Conn, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.server == nil {
		return nil, errStopped
	}
	return e.server.InProcessConn()
}

// halt stops the server; the folder stays locked.
func (e *engine) halt() {
	e.mu.Lock()
	s := e.server
	e.server = nil
	e.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
}

func (e *engine) stop() {
	e.halt()
	e.lock.Close()
}

// engineLog passes the engine's words on. It speaks much at start, so its
// notices are debug events here.
type engineLog struct{ log *slog.Logger }

func (l engineLog) Noticef(format string, v ...any) {
	l.log.Debug("engine: " + fmt.Sprintf(format, v...))
}
func (l engineLog) Warnf(format string, v ...any) { l.log.Warn("engine: " + fmt.Sprintf(format, v...)) }
func (l engineLog) Errorf(format string, v ...any) {
	l.log.Error("engine: " + fmt.Sprintf(format, v...))
}
func (l engineLog) Fatalf(format string, v ...any) {
	l.log.Error("engine: " + fmt.Sprintf(format, v...))
}
func (l engineLog) Debugf(string, ...any) {}
func (l engineLog) Tracef(string, ...any) {}
