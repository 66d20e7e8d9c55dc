package sign

import (
	"encoding/pem"
	"path/filepath"
)

// CADir is the authority's folder in a data directory.
func CADir(data string) string { return filepath.Join(data, "ca") }

// ReadRootPEM returns the root certificate of the authority in dir, as
// outsiders pin it. It needs no key and no running platform.
func ReadRootPEM(dir string) ([]byte, error) {
	c, _, err := readPair(filepath.Join(dir, rootFile))
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), nil
}
