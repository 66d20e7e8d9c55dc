package main

import (
	"errors"
	"fmt"
	"io/fs"

	"countersign/internal/sign"
)

// caCmd groups what concerns the certificate authority.
type caCmd struct {
	Root caRootCmd `cmd:"" help:"Print the root certificate, in PEM, for those who verify signatures."`
}

// caRootCmd exports the root certificate. It needs the directory, not the
// server, and no key.
type caRootCmd struct {
	Data string `help:"The server's data directory." required:"" placeholder:"DIR" env:"COUNTERSIGN_DATA"`
}

func (caRootCmd) Help() string {
	return `  countersign ca root --data DIR > root.pem
  countersign verify app.signed.zip --trust root.pem
  openssl x509 -in root.pem -noout -text`
}

func (c caRootCmd) Run(s *streams) error {
	pem, err := sign.ReadRootPEM(sign.CADir(c.Data))
	if errors.Is(err, fs.ErrNotExist) {
		return hint(fmt.Errorf("no certificate authority in %s", c.Data), "countersign server --data %s makes it on its first start", c.Data)
	}
	if err != nil {
		return err
	}
	_, err = s.out.Write(pem)
	return err
}
