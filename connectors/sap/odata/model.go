package odata

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"

	"ropeway/protocol/fault"
)

// A service is what $metadata says.
type service struct {
	version int // 2 or 4
	sets    map[string]*structure
}

// A structure is an entity type or a complex type.
type structure struct {
	name       string
	key        []string // of an entity type
	properties []*property
	byName     map[string]*property
	etag       bool // changes need a condition (If-Match)
}

// A property is a field, or a way to other records (navigation).
type property struct {
	name       string
	typ        string // "Edm.…", or the name of a type of the service
	prim       primitive
	of         *structure // of prim structured
	collection bool
	navigation bool
	dateOnly   bool // a DateTime of version 2 that SAP shows as a date
	required   bool // Nullable="false"
	maxLength  int  // 0 = no limit
	precision  int  // -1 = not said
	scale      int  // -1 = not said or variable
}

// The forms of metadata, as both versions write them.
type (
	xmlEdmx struct {
		Version  string `xml:"Version,attr"`
		Services struct {
			Version string      `xml:"DataServiceVersion,attr"`
			Schemas []xmlSchema `xml:"Schema"`
		} `xml:"DataServices"`
	}
	xmlSchema struct {
		Namespace    string           `xml:"Namespace,attr"`
		Alias        string           `xml:"Alias,attr"`
		Entities     []xmlStructure   `xml:"EntityType"`
		Complexes    []xmlStructure   `xml:"ComplexType"`
		Enums        []xmlNamed       `xml:"EnumType"`
		Definitions  []xmlNamed       `xml:"TypeDefinition"`
		Containers   []xmlContainer   `xml:"EntityContainer"`
		Associations []xmlAssociation `xml:"Association"`
		Annotations  []struct {
			Target string `xml:"Target,attr"`
			Terms  []struct {
				Term string `xml:"Term,attr"`
			} `xml:"Annotation"`
		} `xml:"Annotations"`
	}
	xmlNamed struct {
		Name       string `xml:"Name,attr"`
		Underlying string `xml:"UnderlyingType,attr"`
	}
	xmlStructure struct {
		Name       string        `xml:"Name,attr"`
		Base       string        `xml:"BaseType,attr"`
		Keys       []xmlNamed    `xml:"Key>PropertyRef"`
		Properties []xmlProperty `xml:"Property"`
		Navigation []xmlProperty `xml:"NavigationProperty"`
	}
	xmlProperty struct {
		Name        string `xml:"Name,attr"`
		Type        string `xml:"Type,attr"`
		Nullable    string `xml:"Nullable,attr"`
		MaxLength   string `xml:"MaxLength,attr"`
		Precision   string `xml:"Precision,attr"`
		Scale       string `xml:"Scale,attr"`
		Concurrency string `xml:"ConcurrencyMode,attr"`
		Display     string `xml:"display-format,attr"`
		Relation    string `xml:"Relationship,attr"`
		ToRole      string `xml:"ToRole,attr"`
	}
	xmlContainer struct {
		Sets []struct {
			Name string `xml:"Name,attr"`
			Type string `xml:"EntityType,attr"`
		} `xml:"EntitySet"`
	}
	xmlAssociation struct {
		Name string `xml:"Name,attr"`
		Ends []struct {
			Role         string `xml:"Role,attr"`
			Type         string `xml:"Type,attr"`
			Multiplicity string `xml:"Multiplicity,attr"`
		} `xml:"End"`
	}
)

// parseMetadata reads an EDMX document.
func parseMetadata(body []byte) (*service, error) {
	var doc xmlEdmx
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, badMetadata("it is not XML: " + err.Error())
	}
	m := &metadata{
		service: &service{sets: map[string]*structure{}}, structures: map[string]*structure{},
		sources: map[string]*xmlStructure{}, simple: map[string]string{}, ends: map[string]xmlAssociation{},
		aliases: map[string]string{},
	}
	switch {
	case strings.HasPrefix(doc.Version, "4."):
		m.service.version = 4
	case doc.Version == "1.0":
		m.service.version = 2
	default:
		return nil, badMetadata(fmt.Sprintf("its version %.20q is not one of OData 2 or 4", doc.Version))
	}
	if err := m.build(doc.Services.Schemas); err != nil {
		return nil, err
	}
	return m.service, nil
}

func badMetadata(cause string) error {
	return fault.Of("E_UNREACHABLE").WithSource(name).
		WithSentence("the service's $metadata cannot be used").WithCause(cause).
		WithFix("check that url is the root of an OData service of version 2 or 4")
}

// metadata is a document being read. Names are "namespace.name".
type metadata struct {
	service    *service
	structures map[string]*structure
	sources    map[string]*xmlStructure
	simple     map[string]string // enumerations and definitions: the type underneath
	ends       map[string]xmlAssociation
	aliases    map[string]string
}

func (m *metadata) build(schemas []xmlSchema) error {
	for i := range schemas {
		m.declare(&schemas[i])
	}
	for full := range m.sources {
		if err := m.fill(full, 0); err != nil {
			return err
		}
	}
	for i := range schemas {
		for _, c := range schemas[i].Containers {
			for _, set := range c.Sets {
				if s, ok := m.structures[m.full(set.Type)]; ok {
					m.service.sets[set.Name] = s
				}
			}
		}
	}
	for i := range schemas {
		m.annotate(&schemas[i])
	}
	return nil
}

func (m *metadata) annotate(s *xmlSchema) {
	for _, a := range s.Annotations {
		for _, term := range a.Terms {
			if strings.HasSuffix(term.Term, "OptimisticConcurrency") {
				m.optimistic(a.Target)
			}
		}
	}
}

func (m *metadata) declare(s *xmlSchema) {
	if s.Alias != "" {
		m.aliases[s.Alias] = s.Namespace
	}
	for _, list := range [][]xmlStructure{s.Entities, s.Complexes} {
		for i := range list {
			full := s.Namespace + "." + list[i].Name
			m.sources[full] = &list[i]
			m.structures[full] = &structure{name: full, byName: map[string]*property{}}
		}
	}
	for _, e := range s.Enums {
		m.simple[s.Namespace+"."+e.Name] = "enum"
	}
	for _, d := range s.Definitions {
		m.simple[s.Namespace+"."+d.Name] = d.Underlying
	}
	for _, a := range s.Associations {
		m.ends[s.Namespace+"."+a.Name] = a
	}
}

// full replaces an alias before a name.
func (m *metadata) full(typ string) string {
	dot := strings.LastIndexByte(typ, '.')
	if dot < 0 {
		return typ
	}
	if space, ok := m.aliases[typ[:dot]]; ok {
		return space + typ[dot:]
	}
	return typ
}

const maxBases = 16 // levels of inheritance

// fill reads the properties of a structure, those of its bases first.
func (m *metadata) fill(full string, depth int) error {
	source, s := m.sources[full], m.structures[full]
	if len(s.properties) > 0 {
		return nil
	}
	if source.Base != "" {
		base := m.full(source.Base)
		if m.sources[base] == nil || depth == maxBases {
			return badMetadata("a base type is missing or the types inherit in a circle")
		}
		if err := m.fill(base, depth+1); err != nil {
			return err
		}
		for _, p := range m.structures[base].properties {
			s.add(p)
		}
		s.key, s.etag = m.structures[base].key, m.structures[base].etag
	}
	for _, k := range source.Keys {
		s.key = append(s.key, k.Name)
	}
	for i := range source.Properties {
		s.add(m.property(&source.Properties[i]))
		s.etag = s.etag || source.Properties[i].Concurrency == "Fixed"
	}
	for i := range source.Navigation {
		if p := m.navigation(&source.Navigation[i]); p != nil {
			s.add(p)
		}
	}
	return nil
}

func (s *structure) add(p *property) {
	if s.byName[p.name] == nil {
		s.properties = append(s.properties, p)
	}
	s.byName[p.name] = p
}

func (m *metadata) property(x *xmlProperty) *property {
	p := &property{name: x.Name, typ: x.Type, dateOnly: x.Display == "Date", required: x.Nullable == "false",
		precision: number(x.Precision), scale: number(x.Scale), maxLength: max(number(x.MaxLength), 0)}
	if p.precision >= 0 && x.Scale == "" {
		p.scale = 0 // both versions: a decimal with a precision and no scale is whole
	}
	m.resolve(p)
	return p
}

func number(text string) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return -1 // "", "Max", "variable", "floating"
	}
	return int(n)
}

// resolve finds what a property's type is made of.
func (m *metadata) resolve(p *property) {
	if inner, ok := strings.CutPrefix(p.typ, "Collection("); ok {
		p.collection, p.typ = true, strings.TrimSuffix(inner, ")")
	}
	p.typ = m.full(p.typ)
	if under, ok := m.simple[p.typ]; ok {
		if under == "enum" {
			p.prim = enumeration
			return
		}
		p.typ = under
	}
	if s, ok := m.structures[p.typ]; ok {
		p.prim, p.of = structured, s
		return
	}
	p.prim = primitives[p.typ]
}

// navigation makes a property of a way to other records; nil when its end is
// not in the document.
func (m *metadata) navigation(x *xmlProperty) *property {
	p := &property{name: x.Name, typ: x.Type, navigation: true, precision: -1, scale: -1}
	if x.Relation != "" { // version 2
		for _, end := range m.ends[m.full(x.Relation)].Ends {
			if end.Role == x.ToRole {
				p.typ, p.collection = end.Type, end.Multiplicity == "*"
			}
		}
	}
	m.resolve(p)
	if p.prim != structured {
		return nil
	}
	return p
}

// optimistic marks the type of an annotated entity set or type.
func (m *metadata) optimistic(target string) {
	if s, ok := m.structures[m.full(target)]; ok {
		s.etag = true
		return
	}
	_, set, _ := strings.Cut(target, "/")
	if s, ok := m.service.sets[set]; ok {
		s.etag = true
	}
}

// fields are the properties that a read returns without asking for more.
func (s *structure) fields() []*property {
	var list []*property
	for _, p := range s.properties {
		if !p.navigation && p.prim != stream {
			list = append(list, p)
		}
	}
	return list
}
