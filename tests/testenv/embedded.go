package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
)

// hashEmbedded names the contents of files.
func hashEmbedded(from fs.FS, names ...string) (string, error) {
	sum := sha256.New()
	for _, name := range names {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", name, len(b))
		sum.Write(b)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}
