package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"countersign/internal/guard"
)

// envCmd prints what a shell needs to reach a server with the aws CLI. It is
// the one command that prints a secret, because that is its purpose.
type envCmd struct {
	Data     string `help:"The server's data directory; its root credentials and address are read there." placeholder:"DIR" env:"COUNTERSIGN_DATA"`
	Endpoint string `help:"Address of the server, when it is not the one in DIR." placeholder:"URL"`
	Region   string `help:"Region to work in; any will do, state is kept by region." default:"us-east-1" env:"AWS_REGION"`
	Output   string `help:"text or json." enum:"text,json" default:"text"`
}

func (envCmd) Help() string {
	return `  eval "$(countersign env --data ./data)"
  aws lambda list-functions

The lines hold the root secret: they are for your shell, not for a log.`
}

const defaultEndpoint = "http://127.0.0.1:4566"

func (c envCmd) Run(s *streams) error {
	key, secret := os.Getenv(guard.RootAccessKeyEnv), os.Getenv(guard.RootSecretEnv)
	if c.Data != "" && (key == "" || secret == "") {
		root, err := guard.ReadRoot(c.Data)
		if errors.Is(err, fs.ErrNotExist) {
			return hint(fmt.Errorf("no root credentials in %s", c.Data), "countersign server --data %s makes them on its first start", c.Data)
		}
		if err != nil {
			return err
		}
		key, secret = root.AccessKeyID, root.SecretAccessKey
	}
	if key == "" || secret == "" {
		return hint(errors.New("whose credentials?"), "countersign env --data DIR, with the DIR the server was started with")
	}
	endpoint := c.Endpoint
	if endpoint == "" && c.Data != "" {
		b, err := os.ReadFile(filepath.Join(c.Data, endpointFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		endpoint = strings.TrimSpace(string(b))
	}
	if endpoint == "" {
		endpoint = defaultEndpoint
	}
	vars := []struct{ name, value string }{
		{"AWS_ENDPOINT_URL", endpoint},
		{"AWS_ACCESS_KEY_ID", key},
		{"AWS_SECRET_ACCESS_KEY", secret},
		{"AWS_REGION", c.Region},
		{"AWS_DEFAULT_REGION", c.Region},
		// Stock clients put "data-" before the host for one Signer operation;
		// there is no such name here.
		{"AWS_DISABLE_HOST_PREFIX_INJECTION", "true"},
	}
	if c.Output == "json" {
		m := map[string]string{}
		for _, v := range vars {
			m[v.name] = v.value
		}
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		return e.Encode(m)
	}
	for _, v := range vars {
		if _, err := fmt.Fprintf(s.out, "export %s=%s\n", v.name, shellQuote(v.value)); err != nil {
			return err
		}
	}
	return nil
}

// shellQuote makes v one word for a POSIX shell.
func shellQuote(v string) string {
	return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
}
