package connectors

import "time"

// Settings are validated settings: every value is a string, an int64 or a
// bool, as the schema's field says, and defaults are filled in.
type Settings map[string]any

// String is the text of a setting; "" when it is not there.
func (s Settings) String(name string) string {
	v, _ := s[name].(string)
	return v
}

// Int is the number of a setting; 0 when it is not there.
func (s Settings) Int(name string) int64 {
	v, _ := s[name].(int64)
	return v
}

// Bool is the truth of a setting; false when it is not there.
func (s Settings) Bool(name string) bool {
	v, _ := s[name].(bool)
	return v
}

// Duration is the length of a setting; 0 when it is not there.
func (s Settings) Duration(name string) time.Duration {
	d, err := time.ParseDuration(s.String(name))
	if err != nil {
		return 0
	}
	return d
}
