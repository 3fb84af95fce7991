package builtin_test

import "ropeway/connectors"

// fieldDocs lists the fields without a doc.
func fieldDocs(fields []connectors.Field) []string {
	var missing []string
	for _, f := range fields {
		if f.Doc == "" {
			missing = append(missing, f.Name)
		}
	}
	return missing
}
