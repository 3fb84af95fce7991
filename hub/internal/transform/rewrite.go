package transform

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"

	"ropeway/hub/internal/model"
	"ropeway/protocol/page"
)

// rewriter turns the tree of an expression into one that touches only what it
// may: fields of the record become variables that are filled when used,
// operators become exact functions, and everything else that reaches outside is
// refused.
type rewriter struct {
	vars   map[string]any
	fields []fieldRef
	index  map[string]int
	whole  bool            // the record itself is used
	lets   map[string]bool // names declared by let
	err    error
}

// fieldRef is one field of the record that an expression uses.
type fieldRef struct {
	name     string
	variable string // its name in the compiled program
	optional bool   // absent reads as null
}

const wholeRecord = "$record"

// natives are the functions of the expression language that are safe, exact and
// repeatable as they are; the value says whether the result is charged.
func natives() map[string]bool {
	return map[string]bool{
		"all": false, "none": false, "any": false, "one": false, "count": false, "find": false,
		"findIndex": false, "findLast": false, "findLastIndex": false,
		"filter": true, "map": true, "reduce": false, "len": false,
		"trim": true, "trimPrefix": true, "trimSuffix": true, "upper": true, "lower": true,
		"split": true, "splitAfter": true, "indexOf": false, "lastIndexOf": false,
		"hasPrefix": false, "hasSuffix": false, "first": false, "last": false, "take": true,
		"reverse": true, "concat": true, "flatten": true, "toBase64": true, "fromBase64": true,
	}
}

// operators are the binary operators with a function of their own.
func operators() map[string]string {
	return map[string]string{
		"+": "$add", "-": "$sub", "*": "$mul", "/": "$div", "%": "$mod", "**": "$pow", "^": "$pow",
		"==": "$eq", "!=": "$ne", "<": "$lt", "<=": "$le", ">": "$gt", ">=": "$ge", "in": "$in",
		"contains": "$contains", "startsWith": "$startsWith", "endsWith": "$endsWith", "matches": "$matches",
	}
}

func (r *rewriter) fail(n ast.Node, format string, args ...any) ast.Node {
	if r.err == nil {
		r.err = fmt.Errorf(format+" (at character %d)", append(args, n.Location().From+1)...)
	}
	return n
}

// path returns the fields of a plain access such as record.a.b; false for
// anything else.
func path(n ast.Node) ([]string, bool) {
	m, ok := n.(*ast.MemberNode)
	if !ok || m.Optional {
		return nil, false
	}
	name, ok := m.Property.(*ast.StringNode)
	if !ok {
		return nil, false
	}
	if id, ok := m.Node.(*ast.IdentifierNode); ok && id.Value == "record" {
		return []string{name.Value}, true
	}
	if up, ok := path(m.Node); ok {
		return append(up, name.Value), true
	}
	return nil, false
}

func (r *rewriter) tree(t *parser.Tree) error {
	t.Node = r.node(t.Node)
	return r.err
}

func (r *rewriter) nodes(list []ast.Node) []ast.Node {
	out := make([]ast.Node, len(list))
	for i, n := range list {
		out[i] = r.node(n)
	}
	return out
}

func (r *rewriter) node(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		return r.identifier(n)
	case *ast.FloatNode:
		return r.float(n)
	case *ast.MemberNode:
		return r.member(n, n.Optional)
	case *ast.ChainNode:
		return r.lenient(n.Node)
	case *ast.UnaryNode:
		return r.unary(n)
	case *ast.BinaryNode:
		return r.binary(n)
	case *ast.CallNode:
		return r.call(n)
	case *ast.BuiltinNode:
		return r.builtin(n)
	}
	return r.structure(n)
}

// structure rewrites the nodes that only hold others.
func (r *rewriter) structure(n ast.Node) ast.Node {
	switch n := n.(type) {
	case *ast.PredicateNode:
		n.Node = r.to(n, "$tick", r.node(n.Node))
	case *ast.ConditionalNode:
		n.Cond, n.Exp1, n.Exp2 = r.node(n.Cond), r.node(n.Exp1), r.node(n.Exp2)
	case *ast.VariableDeclaratorNode:
		n.Value = r.node(n.Value)
		r.lets[n.Name] = true
		n.Expr = r.node(n.Expr)
	case *ast.SequenceNode:
		n.Nodes = r.nodes(n.Nodes)
	case *ast.ArrayNode:
		n.Nodes = r.nodes(n.Nodes)
	case *ast.MapNode:
		n.Pairs = r.nodes(n.Pairs)
	case *ast.PairNode:
		n.Key, n.Value = r.node(n.Key), r.node(n.Value)
	case *ast.SliceNode:
		n.Node = r.node(n.Node)
		if n.From != nil {
			n.From = r.node(n.From)
		}
		if n.To != nil {
			n.To = r.node(n.To)
		}
	case *ast.NilNode, *ast.IntegerNode, *ast.BoolNode, *ast.StringNode, *ast.PointerNode:
	default:
		return r.fail(n, "this form of expression is not available")
	}
	return n
}

// to makes a call of one of our functions in the place of n.
func (r *rewriter) to(n ast.Node, name string, args ...ast.Node) ast.Node {
	callee := &ast.IdentifierNode{Value: name}
	callee.SetLocation(n.Location())
	c := &ast.CallNode{Callee: callee, Arguments: args}
	c.SetLocation(n.Location())
	return c
}

func (r *rewriter) constant(n ast.Node, v any) ast.Node {
	c := &ast.ConstantNode{Value: v}
	c.SetLocation(n.Location())
	return c
}

func (r *rewriter) identifier(n *ast.IdentifierNode) ast.Node {
	switch {
	case r.lets[n.Value]:
		return n
	case n.Value == "record":
		r.whole = true
		n.Value = wholeRecord
		return n
	case n.Value == "vars":
		return r.fail(n, "write vars.NAME")
	}
	fix := ""
	if near := model.Nearest(n.Value, []string{"record", "vars"}); near != "" {
		fix = ", did you mean " + near + "?"
	}
	return r.fail(n, "unknown name %q%s; text needs quotes and fields are record.NAME", n.Value, fix)
}

// float makes an exact decimal of a literal such as 0.29.
func (r *rewriter) float(n *ast.FloatNode) ast.Node {
	d, err := page.DecimalFromString(strconv.FormatFloat(n.Value, 'g', -1, 64))
	if err != nil {
		return r.fail(n, "the number cannot be used")
	}
	return r.constant(n, d)
}

// lenient rewrites a node so that a missing field on its way reads as null.
func (r *rewriter) lenient(n ast.Node) ast.Node {
	switch m := n.(type) {
	case *ast.MemberNode:
		return r.member(m, true)
	case *ast.ChainNode:
		return r.lenient(m.Node)
	}
	return r.node(n)
}

func (r *rewriter) member(n *ast.MemberNode, optional bool) ast.Node {
	name, plain := n.Property.(*ast.StringNode)
	if id, ok := n.Node.(*ast.IdentifierNode); ok && plain && !r.lets[id.Value] {
		switch id.Value {
		case "record":
			return r.field(n, name.Value, optional)
		case "vars":
			return r.variable(n, name.Value)
		}
	}
	base := n.Node
	if optional {
		base = r.lenient(base)
	} else {
		base = r.node(base)
	}
	how := "$get"
	if optional {
		how = "$find"
	}
	return r.to(n, how, base, r.node(n.Property))
}

func (r *rewriter) field(n ast.Node, name string, optional bool) ast.Node {
	key := name
	if optional {
		key = "?" + name
	}
	i, known := r.index[key]
	if !known {
		i = len(r.fields)
		r.index[key] = i
		r.fields = append(r.fields, fieldRef{name: name, variable: "$" + strconv.Itoa(i), optional: optional})
	}
	id := &ast.IdentifierNode{Value: r.fields[i].variable}
	id.SetLocation(n.Location())
	return id
}

func (r *rewriter) variable(n ast.Node, name string) ast.Node {
	v, ok := r.vars[name]
	if !ok {
		return r.fail(n, "unknown variable vars.%s", name)
	}
	return r.constant(n, v)
}

func (r *rewriter) unary(n *ast.UnaryNode) ast.Node {
	inner := r.node(n.Node)
	switch n.Operator {
	case "-":
		return r.to(n, "$neg", inner)
	case "+":
		return r.to(n, "$plus", inner)
	}
	return r.to(n, "$not", inner)
}

func (r *rewriter) binary(n *ast.BinaryNode) ast.Node {
	if n.Operator == "??" {
		n.Left, n.Right = r.lenient(n.Left), r.node(n.Right)
		return n
	}
	if n.Operator == "matches" {
		if text, ok := n.Right.(*ast.StringNode); ok {
			return r.pattern(n, text.Value)
		}
	}
	left, right := r.node(n.Left), r.node(n.Right)
	if name, ours := operators()[n.Operator]; ours {
		return r.to(n, name, left, right)
	}
	switch n.Operator {
	case "and", "&&", "or", "||":
		left, right = r.to(n.Left, "$truth", left), r.to(n.Right, "$truth", right)
	case "..":
	default:
		return r.fail(n, "the operator %s is not available", n.Operator)
	}
	n.Left, n.Right = left, right
	return n
}

func (r *rewriter) pattern(n *ast.BinaryNode, text string) ast.Node {
	re, err := regexp.Compile(text)
	if err != nil {
		return r.fail(n.Right, "the pattern is not valid: %v", err)
	}
	return r.to(n, "$matches", r.node(n.Left), r.constant(n.Right, re))
}

// call rewrites a call by name; calling methods of values is refused.
func (r *rewriter) call(n *ast.CallNode) ast.Node {
	id, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return r.fail(n, "values have no methods; use a function")
	}
	return r.function(n, id.Value, n.Arguments)
}

func (r *rewriter) function(n ast.Node, name string, args []ast.Node) ast.Node {
	count, known := arity()[name]
	if !known {
		fix := ""
		if near := model.Nearest(name, functionNames()); near != "" {
			fix = ", did you mean " + near + "?"
		}
		return r.fail(n, "unknown function %s%s", name, fix)
	}
	if len(args) < count[0] || len(args) > count[1] {
		return r.fail(n, "%s takes %s, got %d", name, arguments(count), len(args))
	}
	return r.to(n, "$"+name, r.nodes(args)...)
}

func arguments(count [2]int) string {
	if count[0] == count[1] {
		return strconv.Itoa(count[0]) + " argument(s)"
	}
	return fmt.Sprintf("%d to %d arguments", count[0], count[1])
}

func (r *rewriter) builtin(n *ast.BuiltinNode) ast.Node {
	charged, native := natives()[n.Name]
	if _, ours := arity()[n.Name]; ours && !native {
		if n.Name == "sum" && len(n.Arguments) == 2 { // the exact sum of what the predicate gives
			mapped := &ast.BuiltinNode{Name: "map", Arguments: n.Arguments}
			mapped.SetLocation(n.Location())
			return r.to(n, "$sum", r.builtin(mapped))
		}
		return r.function(n, n.Name, n.Arguments)
	}
	if !native {
		return r.fail(n, "the function %s is not available", n.Name)
	}
	n.Arguments = r.nodes(n.Arguments)
	if len(n.Arguments) > 1 {
		if _, loops := n.Arguments[1].(*ast.PredicateNode); loops {
			n.Arguments[0] = r.to(n, "$list", n.Arguments[0])
		}
	}
	if charged {
		return r.to(n, "$charge", n)
	}
	return n
}
