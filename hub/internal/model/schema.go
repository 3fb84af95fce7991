package model

import (
	"sort"

	"ropeway/connectors"
)

// Schema is a JSON Schema (draft 2020-12) as plain JSON values.
type Schema map[string]any

// SchemaOf returns the JSON Schema of a kind's manifest, as served at
// /api/schemas/KIND.json. settings, which may be nil, adds the schema of the
// settings of each connector to the one of Connection.
func SchemaOf(kind Kind, settings map[string]Schema) Schema {
	s := kindSchema(kind, settings)
	props := s["properties"].(Schema)
	props["kind"] = Schema{"const": string(kind)}
	props["name"] = named("The name; unique within its kind and environment.")
	props["environment"] = named("The environment; left out: the one of the command.")
	props["labels"] = Schema{"type": "object", "additionalProperties": text(""), "maxProperties": 64}
	props["description"] = text("What it is for.")
	s["required"] = append([]string{"kind", "name"}, s["required"].([]string)...)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = string(kind)
	if kind == KindCredential {
		s["description"] = "A secret used by connections; set its value with `ropeway secret set`."
	}
	return s
}

func kindSchema(kind Kind, settings map[string]Schema) Schema {
	switch kind {
	case KindCredential:
		return object(nil, Schema{"custody": choice("Where the value is kept.", "vault", "sealed", "site")})
	case KindConnection:
		return connectionSchema(settings)
	case KindFlow:
		return flowSchema()
	case KindRoute:
		return object([]string{"agentGroup", "target"}, Schema{
			"agentGroup": text("The agent group that dials the target."),
			"target":     text("host:port behind the agent group."),
			"expose": object([]string{"port", "allow"}, Schema{
				"port":  whole("A port of the hub.", 1, 65535),
				"allow": texts("The networks that may connect, in CIDR form."),
			}),
		})
	case KindListener:
		return object([]string{"flow", "verify"}, Schema{
			"flow":       text("The flow it starts."),
			"agentGroup": text("Where it listens; left out: in the hub."),
			"verify": Schema{"anyOf": []Schema{{"const": "none"}, object([]string{"hmac", "header", "credential"}, Schema{
				"hmac":       choice("The method.", "sha256", "sha384", "sha512"),
				"header":     text("The header that carries the signature."),
				"credential": text("The credential with the key."),
			})}},
		})
	}
	return object(nil, Schema{})
}

func connectionSchema(settings map[string]Schema) Schema {
	s := object([]string{"connector"}, Schema{
		"connector":   text("The connector that speaks to the system."),
		"agentGroup":  text("Where it runs; left out: in the hub."),
		"credential":  text("The credential it signs in with."),
		"settings":    Schema{"type": "object", "description": "The connector's own settings."},
		"concurrency": whole("Requests at once, over everything; left out: burst.", 1, MaxConcurrency),
		"borrowFrom":  text("Share the slots of this connection."),
	})
	var rules []Schema
	for _, name := range sortedKeys(settings) {
		rules = append(rules, Schema{
			"if":   Schema{"properties": Schema{"connector": Schema{"const": name}}},
			"then": Schema{"properties": Schema{"settings": settings[name]}},
		})
	}
	if rules != nil {
		s["properties"].(Schema)["connector"] = choice("The connector.", sortedKeys(settings)...)
		s["allOf"] = rules
	}
	return s
}

func flowSchema() Schema {
	return object([]string{"steps"}, Schema{
		"schedule": object([]string{"cron"}, Schema{
			"cron":     text("Five fields, or six with seconds first."),
			"timezone": text("An IANA zone; left out: UTC."),
			"misfire":  choice("What an overdue schedule does.", "coalesce", "all", "skip"),
			"overlap":  choice("What a run does while another runs.", "skip", "queue", "parallel"),
		}),
		"export": exportSchema(),
		"steps":  Schema{"type": "array", "minItems": 1, "maxItems": MaxSteps, "items": stepSchema()},
	})
}

func exportSchema() Schema {
	return object([]string{"connection"}, Schema{
		"name":       token(),
		"connection": text("The connection it reads."),
		"query":      text("SQL text; or use table, columns and where."),
		"table":      text("The table it reads."),
		"columns":    texts("The columns; left out: all."),
		"where": Schema{"anyOf": []Schema{text("SQL text."), {"type": "array",
			"items": object([]string{"column", "op"}, Schema{
				"column": text("The column."),
				"op":     choice("", connectors.Operators()...),
				"value":  Schema{},
			})}}},
		"key": texts("Columns that are unique together, for resumable reads."),
		"delta": object([]string{"field"}, Schema{
			"field": text("The column that grows."),
			"lag":   text("The margin that is read again, such as 30s."),
		}),
		"pageSize": whole("Records of a page; pages are bounded by bytes anyway.", 1, MaxPageSize),
		"traceKey": texts("Fields that trace a record; left out: the key."),
	})
}

func stepSchema() Schema {
	expr := Schema{"type": []string{"string", "number", "boolean"}, "description": "An expression."}
	fields := Schema{"type": "object", "minProperties": 1, "maxProperties": maxFields, "additionalProperties": expr}
	fieldErrors := object(nil, Schema{"remove": Schema{
		"anyOf": []Schema{{"const": "*"}, texts("Fields that may be left out.")}}})
	onError := choice("What a refused record does.", "park", "stop")
	s := object(nil, Schema{
		"name":   token(),
		"filter": expr,
		"map":    fields,
		"set":    fields,
		"import": object([]string{"connection", "table"}, Schema{
			"connection":  text("The connection it writes."),
			"table":       text("The table it writes."),
			"mode":        choice("Left out: insert.", "insert", "update", "upsert", "delete"),
			"key":         texts("The columns that find a row; needed unless the mode is insert."),
			"inbox":       Schema{"enum": []any{"auto", "true", "false", true, false}},
			"fieldErrors": fieldErrors,
			"onError":     onError,
		}),
		"fieldErrors": fieldErrors,
		"onError":     onError,
	})
	s["oneOf"] = []Schema{
		{"required": []string{"filter"}}, {"required": []string{"map"}},
		{"required": []string{"set"}}, {"required": []string{"import"}},
	}
	return s
}

func object(required []string, properties Schema) Schema {
	if required == nil {
		required = []string{}
	}
	return Schema{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func text(doc string) Schema {
	if doc == "" {
		return Schema{"type": "string"}
	}
	return Schema{"type": "string", "description": doc}
}

func named(doc string) Schema {
	return Schema{"type": "string", "description": doc, "pattern": objectName.String()}
}

func token() Schema {
	return Schema{"type": "string", "description": "A stable name.", "pattern": stepToken.String()}
}

func texts(doc string) Schema {
	return Schema{"type": "array", "description": doc, "items": text(""), "uniqueItems": true}
}

func whole(doc string, low, high int) Schema {
	return Schema{"type": "integer", "description": doc, "minimum": low, "maximum": high}
}

func choice(doc string, values ...string) Schema {
	s := Schema{"enum": values}
	if doc != "" {
		s["description"] = doc
	}
	return s
}

func sortedKeys(m map[string]Schema) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
