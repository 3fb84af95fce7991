package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

// statuses are the HTTP statuses of codes; other codes go by their class.
var statuses = map[string]int{
	"E_UNAUTHENTICATED": http.StatusUnauthorized,
	"E_FORBIDDEN":       http.StatusForbidden,
	"E_NOT_FOUND":       http.StatusNotFound,
	"E_METHOD":          http.StatusMethodNotAllowed,
	"E_CONFLICT":        http.StatusConflict,
	"E_PRECONDITION":    http.StatusPreconditionFailed,
	"E_IN_USE":          http.StatusConflict,
	"E_EXISTS":          http.StatusConflict,
	"E_STATE_CONFLICT":  http.StatusConflict,
	"E_REQUEST":         http.StatusBadRequest,
	"E_PARSE":           http.StatusBadRequest,
	"E_TOO_LARGE":       http.StatusRequestEntityTooLarge,
	"E_UNAVAILABLE":     http.StatusServiceUnavailable,
	"E_MEDIA_TYPE":      http.StatusUnsupportedMediaType,
}

func statusOf(f *fault.Error) int {
	if s, ok := statuses[f.Code]; ok {
		return s
	}
	switch f.Class {
	case fault.Value, fault.Duplicate, fault.SchemaDrift, fault.Parse:
		return http.StatusUnprocessableEntity
	case fault.Missing:
		return http.StatusNotFound
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.RateLimit:
		return http.StatusTooManyRequests
	case fault.Intermittent, fault.Connection:
		return http.StatusServiceUnavailable
	case fault.Policy, fault.Auth:
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}

// problemOf turns any error into the answer for it.
func problemOf(err error) *model.Problem {
	f := fault.From(err)
	p := &model.Problem{Type: "about:blank", Title: f.Sentence, Status: statusOf(f), Code: f.Code, Class: string(f.Class),
		Detail: f.Error(), Cause: f.Cause, Fix: f.Fix, Field: f.Field, Source: f.Source}
	if f.Code == "E_INTERNAL" { // what is behind it is for the log, not for the wire
		p.Cause, p.Detail = "", f.Sentence
	}
	var all model.Faults
	if errors.As(err, &all) && len(all) > 0 {
		for _, one := range all {
			p.Errors = append(p.Errors, model.ProblemEntry{Code: one.Code, Title: one.Sentence,
				Cause: one.Cause, Fix: one.Fix, Field: one.Field, Source: one.Source})
		}
		if len(all) > 1 {
			p.Detail = fmt.Sprintf("%d problems, the first: %s", len(all), p.Detail)
		}
	}
	return p
}

var setErrors sync.Once

// useProblems makes the framework answer with our problems.
func useProblems() {
	setErrors.Do(func() {
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			for _, err := range errs {
				var p *model.Problem
				if errors.As(err, &p) {
					return p
				}
			}
			return requestProblem(status, message, errs)
		}
	})
}

// requestProblem describes a request the framework refused.
func requestProblem(status int, message string, errs []error) *model.Problem {
	code := "E_REQUEST"
	switch status {
	case http.StatusNotFound:
		code = "E_NOT_FOUND"
	case http.StatusRequestEntityTooLarge:
		code = "E_TOO_LARGE"
	case http.StatusUnprocessableEntity:
		status = http.StatusBadRequest
	case http.StatusInternalServerError:
		code = "E_INTERNAL"
	}
	f := fault.Of(code)
	var list []model.ProblemEntry
	for _, err := range errs {
		var d *huma.ErrorDetail
		if errors.As(err, &d) {
			list = append(list, model.ProblemEntry{Code: code, Title: f.Sentence, Cause: d.Message, Field: strings.TrimPrefix(d.Location, "body.")})
		} else if err != nil {
			list = append(list, model.ProblemEntry{Code: code, Title: f.Sentence, Cause: err.Error()})
		}
	}
	cause, field := message, ""
	if len(list) > 0 {
		cause, field = list[0].Cause, list[0].Field
		if field != "" {
			cause = field + ": " + cause
		}
	}
	f = f.WithCause(cause).WithField(field)
	return &model.Problem{Type: "about:blank", Title: f.Sentence, Status: status, Code: f.Code, Class: string(f.Class),
		Detail: f.Error(), Cause: f.Cause, Fix: f.Fix, Field: field, Errors: list}
}
