package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"ropeway/hub/internal/model"
	"ropeway/protocol/fault"
)

func (s *server) docRoutes() {
	s.mux.HandleFunc("GET /api/schemas/{file}", s.schema)
	s.mux.HandleFunc("GET /api/docs", s.docs)
	s.mux.HandleFunc("GET /api/docs.css", func(w http.ResponseWriter, _ *http.Request) {
		write(w, "text/css; charset=utf-8", []byte(docsStyle))
	})
}

// schema serves the JSON Schema of one kind of manifest.
func (s *server) schema(w http.ResponseWriter, r *http.Request) {
	name, found := strings.CutSuffix(r.PathValue("file"), ".json")
	kind, known := model.ParseKind(name)
	if !found || !known {
		writeProblem(w, problemOf(fault.Of("E_NOT_FOUND").WithCause("there is no schema of this name").
			WithFix("use /api/schemas/KIND.json")))
		return
	}
	settings := map[string]model.Schema{}
	for _, connector := range s.Connectors.Names() {
		settings[connector] = s.Connectors.SettingsSchema(connector)
	}
	b, err := json.MarshalIndent(model.SchemaOf(kind, settings), "", "  ")
	if err != nil {
		writeProblem(w, s.refuse(r.Context(), "schema", err))
		return
	}
	write(w, "application/schema+json", b)
}

// write sends a whole answer; an error means that the client is gone.
func write(w http.ResponseWriter, contentType string, b []byte) {
	w.Header().Set("Content-Type", contentType)
	if _, err := w.Write(b); err != nil {
		return
	}
}

// docs serves a page that lists every operation, made of the OpenAPI
// description; it needs no script and nothing from elsewhere.
func (s *server) docs(w http.ResponseWriter, r *http.Request) {
	var out bytes.Buffer
	err := docsPage.Execute(&out, map[string]any{"Version": s.Version, "Operations": operations(s.api.OpenAPI()), "Kinds": model.Kinds()})
	if err != nil {
		writeProblem(w, s.refuse(r.Context(), "docs", err))
		return
	}
	write(w, "text/html; charset=utf-8", out.Bytes())
}

func operations(o *huma.OpenAPI) []*huma.Operation {
	var out []*huma.Operation
	for _, item := range o.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch} {
			if op != nil {
				out = append(out, op)
			}
		}
	}
	slices.SortFunc(out, func(a, b *huma.Operation) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	return out
}

const docsStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h2{font-size:1rem;margin:1.6rem 0 .2rem}code{font:14px ui-monospace,monospace}b{display:inline-block;min-width:4.5rem}
table{border-collapse:collapse}td{padding:.1rem .8rem .1rem 0;vertical-align:top}p{margin:.2rem 0}
@media(prefers-color-scheme:dark){body{color:#eee;background:#16181d}a{color:#8ab4f8}}`

var docsPage = template.Must(template.New("docs").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Ropeway API</title>
<link rel="stylesheet" href="/api/docs.css"></head><body>
<h1>Ropeway API</h1>
<p>Version {{.Version}}. The whole description: <a href="/api/openapi.json">/api/openapi.json</a> (OpenAPI 3.1).</p>
<p>Send <code>Authorization: Bearer TOKEN</code>; choose the environment with <code>?environment=NAME</code>.
Errors are problem details (RFC 9457) with code, cause and fix. Lists take <code>?limit=</code> and <code>?cursor=</code>.</p>
<p>Schemas of manifests: {{range .Kinds}}<a href="/api/schemas/{{.}}.json">{{.}}</a> {{end}}</p>
{{range .Operations}}<h2 id="{{.OperationID}}"><b>{{.Method}}</b> <code>{{.Path}}</code></h2>
<p>{{.Summary}}. {{.Description}}</p>
{{if .Parameters}}<table>{{range .Parameters}}<tr><td><code>{{.Name}}</code></td><td>{{.In}}</td><td>{{.Description}}</td></tr>{{end}}</table>{{end}}
{{end}}</body></html>`))
