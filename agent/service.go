package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
)

// Where the packages put things (installers/linux).
const (
	packagedState = "/var/lib/ropeway-agent" // + "-" + instance
	packagedRun   = "/run/ropeway-agent"
	tokenName     = "enroll-token" // the credential's name in the unit
)

// serviceDirectory is the state directory that the service manager has made for
// this unit (StateDirectory=), if it has.
func serviceDirectory(environ []string) string {
	dir, _, _ := strings.Cut(variable(environ, "STATE_DIRECTORY"), ":")
	if !filepath.IsAbs(dir) {
		return ""
	}
	return dir
}

// runtimeDirectory is where the packaged unit with this state directory keeps its
// socket; "" for any other state directory, and while the service does not run.
func runtimeDirectory(state string) string {
	instance, packaged := strings.CutPrefix(filepath.Clean(state), packagedState)
	if !packaged || instance != "" && !strings.HasPrefix(instance, "-") || strings.Contains(instance, "/") {
		return ""
	}
	dir := packagedRun + instance
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return ""
	}
	return dir
}

// A Service is what a service manager gives an agent that it runs. Such an agent
// waits for its enrollment instead of ending without one.
type Service struct {
	// Token is the enrollment token the manager hands over; false when there is none.
	Token func() (enroll.Token, bool, error)
	// TokenFix tells the administrator how a token gets there.
	TokenFix string
}

// Systemd is the service that this process is, nil when systemd has not started
// it as one (Type=notify).
func Systemd(instance string, environ []string) *Service {
	if variable(environ, "NOTIFY_SOCKET") == "" {
		return nil
	}
	file, unit := "/etc/ropeway/enroll-token", "ropeway-agent"
	if instance != "" {
		file, unit = file+"-"+instance, unit+"@"+instance
	}
	dir := variable(environ, "CREDENTIALS_DIRECTORY")
	return &Service{
		Token:    func() (enroll.Token, bool, error) { return readToken(dir) },
		TokenFix: fmt.Sprintf("put a token from the hub into %s (mode 0600), then `systemctl restart %s`", file, unit),
	}
}

// readToken reads what LoadCredential= has put into dir. An empty file is none.
func readToken(dir string) (token enroll.Token, found bool, err error) {
	if dir == "" {
		return token, false, nil
	}
	file, err := os.Open(filepath.Join(dir, tokenName))
	if errors.Is(err, fs.ErrNotExist) {
		return token, false, nil
	}
	if err != nil {
		return token, true, fault.Of("E_TOKEN_INVALID").WithCause("it cannot be read")
	}
	defer file.Close()
	const limit = 64 << 10 // more than a token has; ParseToken refuses it
	text, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return token, true, fault.Of("E_TOKEN_INVALID").WithCause("it cannot be read")
	}
	if strings.TrimSpace(string(text)) == "" {
		return token, false, nil
	}
	token, err = enroll.ParseToken(string(text))
	return token, true, err
}

func variable(environ []string, name string) string {
	for _, v := range environ {
		if key, value, _ := strings.Cut(v, "="); key == name {
			return value
		}
	}
	return ""
}
