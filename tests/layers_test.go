// Package tests holds the rules about the tree itself: which package may import
// which, who may touch which third-party engine, and that every package says
// what it owns. It knows no behaviour of the product.
package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

const module = "ropeway/"

// rows is the import table of docs/architecture.md. A package may import packages
// of its own side with a smaller row, and every shared package when it belongs to
// the agent or the hub. Packages of one row never import each other.
var rows = map[string]int{
	"protocol/fault": 0, "protocol/page": 1,
	"protocol/control": 2, "protocol/tunnel": 2, "certs": 2,
	"protocol/tunnel/tcp": 3, "protocol/tunnel/quic": 3, "certs/ca": 3,
	"connectors": 4, "certs/enroll": 4,
	"connectors/internal/sqldb": 5, "connectors/internal/httpapi": 5, "connectors/request": 5,
	"connectors/postgres": 6, "connectors/sqlite": 6, "connectors/mysql": 6, "connectors/sap/odata": 6,
	"connectors/builtin": 7,

	"agent/internal/identity": 1, "agent/internal/buffer": 1, "agent/internal/policy": 1,
	"agent/internal/credential": 1,
	"agent/internal/uplink":     2, "agent/internal/transport": 2,
	"agent/internal/runner":   3,
	"agent/internal/localapi": 4,
	"agent":                   5,
	"agent/internal/cli":      6,
	"agent/cmd/ropeway-agent": 7,

	"hub/internal/model": 1,
	"hub/internal/store": 2, "hub/internal/queue": 2, "hub/internal/secret": 2, "hub/internal/gateway": 2,
	"hub/internal/access": 3, "hub/internal/audit": 3, "hub/internal/enroll": 3,
	"hub/internal/connection": 3, "hub/internal/transform": 3, "hub/internal/egress": 3,
	"hub/internal/flow": 4,
	"hub/internal/api":  6,
	"hub":               7, "hub/internal/client": 7,
	"hub/internal/cli": 8, "hub/internal/operator": 8,
	"hub/cmd/ropeway": 9, "hub/cmd/ropeway-hub": 9,
}

// suites are contract suites and test environments: they import what they test.
var suites = map[string]bool{
	"protocol/tunnel/tunneltest": true, "connectors/connectortest": true,
	"hub/internal/store/storetest": true, "hub/internal/secret/secrettest": true,
}

// walls names, for each engine, the packages that alone may import it.
var walls = map[string][]string{
	"github.com/nats-io/":           {"hub/internal/queue"},
	"github.com/hashicorp/vault":    {"hub/internal/secret"},
	"github.com/hashicorp/yamux":    {"protocol/tunnel/tcp"},
	"github.com/quic-go/":           {"protocol/tunnel/quic"},
	"github.com/mattn/go-sqlite3":   {"hub/internal/store", "agent/internal/buffer", "connectors/sqlite"},
	"google.golang.org/grpc":        {"protocol/control", "hub/internal/gateway", "agent/internal/uplink"},
	"github.com/go-sql-driver/":     {"connectors/mysql"},
	"github.com/jackc/pgx/":         {"hub/internal/store", "connectors/postgres"},
	"github.com/coreos/go-systemd":  {"agent", "hub"},
	"github.com/expr-lang/expr":     {"hub/internal/transform"},
	"github.com/danielgtaylor/huma": {"hub/internal/api"},
}

type sourceFile struct {
	pkg, name string
	test      bool
	tree      *ast.File
}

func sources(t *testing.T) []sourceFile {
	t.Helper()
	var out []sourceFile
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" ||
			d.Name() == "node_modules" || d.Name() == "demo-data") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		tree, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(p, "../"))
		out = append(out, sourceFile{path.Dir(rel), rel, strings.HasSuffix(p, "_test.go"), tree})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// side returns "agent", "hub" or "shared".
func side(pkg string) string {
	switch first, _, _ := strings.Cut(pkg, "/"); first {
	case "agent", "hub":
		return first
	}
	return "shared"
}

func TestImportsPointDownwards(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || suites[f.pkg] || strings.HasPrefix(f.pkg, "tests") {
			continue
		}
		row, known := rows[f.pkg]
		if !known {
			t.Errorf("%s: package %s is not in the import table", f.name, f.pkg)
			continue
		}
		for _, spec := range f.tree.Imports {
			imported, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if !ok {
				continue
			}
			checkImport(t, f, row, imported)
		}
	}
}

func checkImport(t *testing.T, f sourceFile, row int, imported string) {
	t.Helper()
	lower, known := rows[imported]
	from, to := side(f.pkg), side(imported)
	switch {
	case !known:
		t.Errorf("%s imports %s, which is not in the import table", f.name, imported)
	case from == to && lower >= row:
		t.Errorf("%s (row %d) imports %s (row %d): imports point downwards", f.name, row, imported, lower)
	case from == "shared" && to != "shared":
		t.Errorf("%s is shared and imports %s", f.name, imported)
	case from != to && to != "shared":
		t.Errorf("%s imports %s: agent and hub know only shared packages", f.name, imported)
	}
}

func TestThirdPartyWalls(t *testing.T) {
	for _, f := range sources(t) {
		if f.test || suites[f.pkg] || strings.HasPrefix(f.pkg, "tests") {
			continue
		}
		for _, spec := range f.tree.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			for engine, allowed := range walls {
				if strings.HasPrefix(imported, engine) && !contains(allowed, f.pkg) {
					t.Errorf("%s imports %s; only %v may", f.name, imported, allowed)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	documented, seen := map[string]bool{}, map[string]bool{}
	for _, f := range sources(t) {
		if f.test && !strings.HasPrefix(f.pkg, "tests") {
			continue
		}
		seen[f.pkg] = true
		if f.tree.Doc != nil && len(strings.Split(strings.TrimSpace(f.tree.Doc.Text()), "\n")) >= 2 {
			documented[f.pkg] = true
		}
	}
	for pkg := range seen {
		if !documented[pkg] {
			t.Errorf("package %s has no package comment of at least two lines", pkg)
		}
	}
}

func TestMainsAreSmall(t *testing.T) {
	for _, f := range sources(t) {
		if path.Base(f.name) != "main.go" || !strings.Contains(f.pkg, "/cmd/") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, "../"+f.name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if lines := set.Position(tree.End()).Line; lines > 20 {
			t.Errorf("%s has %d lines; a main has at most 20", f.name, lines)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
