package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"ropeway/hub/internal/access"
	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
	"ropeway/protocol/page"
)

type server struct {
	Config
	api  huma.API
	mux  *http.ServeMux
	idem idempotency
}

// New returns the handler of everything under /api.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	useProblems()
	s := &server{Config: c, mux: http.NewServeMux()}
	s.api = humago.New(s.mux, settings(c.Version))
	aliases(s.api.OpenAPI().Components.Schemas)
	s.api.UseMiddleware(s.authenticate)
	s.objectRoutes()
	s.secretRoutes()
	s.agentRoutes()
	s.flowRoutes()
	s.jobRoutes()
	s.parkedRoutes()
	s.connectionRoutes()
	s.auditRoutes()
	s.docRoutes()
	s.mux.HandleFunc("/api/", s.notFound)
	return s.guard(s.idem.wrap(s.mux, s.known))
}

func settings(version string) huma.Config {
	config := huma.DefaultConfig("Ropeway", version)
	config.Info.Description = "Everything the console and the command line do goes through this API. " +
		"The tenant comes from the bearer token, the environment from ?environment=."
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/api/openapi", "", ""
	config.CreateHooks, config.Transformers = nil, nil
	config.RejectUnknownQueryParameters = true
	strict := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			e := json.NewEncoder(w)
			e.SetEscapeHTML(true)
			return e.Encode(v)
		},
		Unmarshal: strictJSON,
	}
	config.Formats = map[string]huma.Format{"application/json": strict, "json": strict}
	config.DefaultFormat = "application/json"
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "An API token."},
	}
	return config
}

// faultSchema is how a fault looks as JSON, for the description of the API.
type faultSchema struct {
	Code         string `json:"code"`
	Class        string `json:"class"`
	Source       string `json:"source,omitempty"`
	Sentence     string `json:"sentence"`
	Cause        string `json:"cause,omitempty"`
	Fix          string `json:"fix,omitempty"`
	Field        string `json:"field,omitempty"`
	RetryAfterMs int64  `json:"retryAfterMs,omitempty"`
}

// aliases tells how types look that write their own JSON.
func aliases(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[page.ID](), reflect.TypeFor[string]())
	r.RegisterTypeAlias(reflect.TypeFor[fault.Error](), reflect.TypeFor[faultSchema]())
}

// op is one operation: what every one of them needs to say.
type op struct {
	id, method, path, summary string
	right                     access.Action
	status                    int
	maxBody                   int64
	raw                       bool // the body is read by the handler, not by the framework
}

func (o op) operation() huma.Operation {
	out := huma.Operation{OperationID: o.id, Method: o.method, Path: o.path, Summary: o.summary,
		DefaultStatus: o.status, MaxBodyBytes: o.maxBody, BodyReadTimeout: 20 * time.Second, SkipValidateBody: o.raw,
		Metadata: map[string]any{rightKey: o.right}}
	if o.right != rightNone {
		out.Security = []map[string][]string{{"token": {}}}
		out.Description = "Needs a role that may " + string(o.right) + "."
	}
	return out
}

// route registers one operation; errors of the handler become problems.
func route[I, O any](s *server, o op, handle func(ctx context.Context, in *I) (*O, error)) {
	huma.Register(s.api, o.operation(), func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.refuse(ctx, o.id, err)
		}
		return out, nil
	})
}

// refuse turns an error into a problem and logs what is our own fault.
func (s *server) refuse(ctx context.Context, operation string, err error) *model.Problem {
	p := problemOf(err)
	if p.Status >= 500 && p.Code == "E_INTERNAL" && ctx.Err() == nil {
		s.Log.Error("request failed", "operation", operation, "error", err)
	}
	return p
}

// guard adds the headers every answer has and keeps a panic to one request.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.Log.Error("request panicked", "path", r.URL.Path, "panic", p)
				writeProblem(w, problemOf(fault.Of("E_INTERNAL")))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// notFound answers for paths and methods that are not in the API.
func (s *server) notFound(w http.ResponseWriter, r *http.Request) {
	f := fault.Of("E_NOT_FOUND").WithSentence("there is no such operation").WithFix("see /api/docs")
	if allowed := s.methods(r); len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		f = fault.New(fault.Value, "E_METHOD", "this method is not possible here").
			WithFix("use " + strings.Join(allowed, " or "))
	}
	writeProblem(w, problemOf(f.WithCause(r.Method+" "+r.URL.Path)))
}

// methods returns the methods that the path of a request has.
func (s *server) methods(r *http.Request) []string {
	var out []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := s.mux.Handler(&other); pattern != "" && pattern != "/api/" {
			out = append(out, method)
		}
	}
	return out
}

func writeProblem(w http.ResponseWriter, p *model.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		return // the client is gone; there is nobody to tell
	}
}

// list is one piece of a list. Next continues it with ?cursor=.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Continue with ?cursor=; absent at the end."`
}

// Paging is how a list is cut.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Items at most."`
	Cursor string `query:"cursor" maxLength:"512" doc:"The next of the piece before."`
}

func listOf[T any](items []T, next string) list[T] {
	if items == nil {
		items = []T{}
	}
	return list[T]{Items: items, Next: next}
}
