package secret

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/hashicorp/vault/api"

	"ropeway/protocol/fault"
)

// What keeps the hub from its secrets for a while. All of it is intermittent:
// the work waits and goes on by itself.
func vaultSealed() *fault.Error {
	return fault.New(fault.Intermittent, "E_SEALED", "Vault is sealed").WithSource("vault").
		WithFix("unseal Vault; what waits goes on by itself")
}

func vaultUnreachable(cause string) *fault.Error {
	return fault.New(fault.Intermittent, "E_SECRETS_UNREACHABLE", "Vault does not serve the hub's secrets").
		WithSource("vault").WithCause(cause).
		WithFix("check secrets.vault.address and that Vault runs; what waits goes on by itself")
}

func vaultDenied(cause string) *fault.Error {
	return fault.New(fault.Intermittent, "E_SECRETS_DENIED", "Vault does not let the hub do this").
		WithSource("vault").WithCause(cause).
		WithFix("give the hub's role the policy of docs/vault.md; what waits goes on by itself")
}

func vaultRefused(method, cause string) *fault.Error {
	return fault.New(fault.Intermittent, "E_SECRETS_DENIED", "Vault does not let the hub sign in").
		WithSource("vault").WithCause(method + ": " + cause).
		WithFix("put a valid credential into the file that secrets.vault names; the hub reads it again by itself")
}

// vaultFault turns what went wrong into what people read. hide are texts that
// must not be shown, in case an answer repeats them.
func vaultFault(ctx context.Context, err error, hide ...string) error {
	var known *fault.Error
	var answer *api.ResponseError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("ask Vault: %w", ctx.Err())
	case errors.As(err, &known):
		return err
	case !errors.As(err, &answer):
		return vaultUnreachable(clean(transportCause(err), hide))
	case sealedAnswer(answer):
		return vaultSealed()
	case answer.StatusCode == http.StatusForbidden:
		return vaultDenied(clean(answerCause(answer), hide))
	}
	return vaultUnreachable(clean(answerCause(answer), hide))
}

// transportCause is what a request without a usable answer met.
func transportCause(err error) string {
	var u *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &u):
		return u.Err.Error()
	case errors.Is(err, errAnswerTooLong):
		return errAnswerTooLong.Error()
	}
	return "the answer is none of Vault's"
}

// answerCause is what Vault said, without the address.
func answerCause(answer *api.ResponseError) string {
	said := strings.Join(answer.Errors, ", ")
	if answer.RawError {
		said = "the answer is none of Vault's"
	}
	return fmt.Sprintf("%d %s", answer.StatusCode, said)
}

func sealedAnswer(answer *api.ResponseError) bool {
	return answer.StatusCode == http.StatusServiceUnavailable && says(answer, "sealed")
}

func says(answer *api.ResponseError, word string) bool {
	return slices.ContainsFunc(answer.Errors, func(s string) bool {
		return strings.Contains(strings.ToLower(s), word)
	})
}

// rejected reports that Vault has answered and will not do it, as opposed to
// being unable to.
func rejected(err error) bool { return forbidden(err) || badRequest(err) }

func forbidden(err error) bool { return status(err) == http.StatusForbidden }

// badRequest reports that Vault does not accept what was asked.
func badRequest(err error) bool { return status(err) == http.StatusBadRequest }

// answerOf is Vault's refusal in err, nil if it is none.
func answerOf(err error) *api.ResponseError {
	var answer *api.ResponseError
	errors.As(err, &answer)
	return answer
}

// status is the HTTP status of Vault's refusal, 0 if it is none.
func status(err error) int {
	if answer := answerOf(err); answer != nil {
		return answer.StatusCode
	}
	return 0
}

// clean makes a text of another's fit for errors and logs: without secrets, on
// one line and short.
func clean(text string, hide []string) string {
	for _, s := range hide {
		if s != "" {
			text = strings.ReplaceAll(text, s, hidden)
		}
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	return strings.ToValidUTF8(text[:min(len(text), 200)], "")
}
