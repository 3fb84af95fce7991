package model

import (
	"encoding/json"
	"fmt"
)

// plainVerify has the fields of Verify without its methods.
type plainVerify Verify

// MarshalJSON writes "none", or the fields, as in the manifest.
func (v Verify) MarshalJSON() ([]byte, error) {
	if v.None {
		return []byte(`"none"`), nil
	}
	return json.Marshal(plainVerify(v))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Verify) UnmarshalJSON(b []byte) error {
	if string(b) == `"none"` {
		*v = Verify{None: true}
		return nil
	}
	var plain plainVerify
	if err := json.Unmarshal(b, &plain); err != nil {
		return fmt.Errorf("decode verify: %w", err)
	}
	*v = Verify(plain)
	return nil
}
