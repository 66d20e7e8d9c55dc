package guard

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"

	"countersign/internal/guard/seal"
	"countersign/internal/wire"
)

// The environment's names for root credentials an operator gives.
const (
	RootAccessKeyEnv = "COUNTERSIGN_ROOT_ACCESS_KEY_ID"
	RootSecretEnv    = "COUNTERSIGN_ROOT_SECRET_ACCESS_KEY"
)

// RootFile is where the root credentials lie in the data directory.
const RootFile = "root-credentials.json"

// Credentials are a long-lived access key. They do not print; whoever hands
// them on names the fields.
type Credentials struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
}

// Format shows the access key id alone.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "{%s ***}", c.AccessKeyID) }

// LogValue keeps the secret out of logs.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.AccessKeyID) }

// validate refuses what cannot be signed with or can be guessed. The least
// lengths are those S3 servers have long asked of operators.
func (c Credentials) validate() error {
	switch {
	case len(c.AccessKeyID) < 3 || len(c.AccessKeyID) > 128:
		return errors.New("access key id must have 3 to 128 characters")
	case strings.Trim(c.AccessKeyID, idLetters) != "":
		return errors.New("access key id may hold letters, digits, '_', '-' and '.' only")
	case len(c.SecretAccessKey) < 8 || len(c.SecretAccessKey) > 128:
		return errors.New("secret access key must have 8 to 128 characters")
	case strings.ContainsFunc(c.SecretAccessKey, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("secret access key may hold printable ASCII only, no spaces")
	}
	return nil
}

// idLetters are what fits into a credential scope, a header and a URL as is.
const idLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."

// newCredentials makes credentials in AWS's form: AKIA and 16 characters of
// base32 (80 bits), and 40 of base64 (240 bits).
func newCredentials() Credentials {
	var id [10]byte
	var secret [30]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	return Credentials{"AKIA" + base32.StdEncoding.EncodeToString(id[:]), base64.StdEncoding.EncodeToString(secret[:])}
}

// Root is the account's root user, the first and, for now, only caller. It is
// a [Keys] of one key.
type Root struct {
	creds  Credentials
	caller wire.Caller
}

// OpenRoot returns the root user of the data directory dir. Credentials given
// by the operator win and are written nowhere; else those of an earlier start
// count; else new ones are made and kept.
func OpenRoot(dir string, given Credentials) (*Root, error) {
	if given != (Credentials{}) {
		if given.AccessKeyID == "" || given.SecretAccessKey == "" {
			return nil, errors.New("root credentials: give both the access key id and the secret access key, or neither")
		}
		if err := given.validate(); err != nil {
			return nil, fmt.Errorf("root credentials: %w", err)
		}
		return newRoot(given), nil
	}
	c, err := ReadRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		b, err := json.MarshalIndent(newCredentials(), "", "  ")
		if err != nil {
			return nil, fmt.Errorf("root credentials: %w", err)
		}
		// Whoever creates the file first wins, this process or another.
		if err := seal.CreateFile(filepath.Join(dir, RootFile), append(b, '\n')); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("root credentials: %w", err)
		}
		c, err = ReadRoot(dir)
		if err != nil {
			return nil, err
		}
		return newRoot(c), nil
	}
	if err != nil {
		return nil, err
	}
	return newRoot(c), nil
}

// ReadRoot reads the credentials an earlier start made in dir. The error is
// [fs.ErrNotExist] when there are none.
func ReadRoot(dir string) (Credentials, error) {
	path := filepath.Join(dir, RootFile)
	b, err := seal.ReadFile(path)
	if err != nil {
		return Credentials{}, fmt.Errorf("root credentials: %w", err)
	}
	var c Credentials
	if err := json.Unmarshal(b, &c); err != nil {
		return Credentials{}, fmt.Errorf("root credentials: %s is not JSON", path) // the cause may quote the file
	}
	if err := c.validate(); err != nil {
		return Credentials{}, fmt.Errorf("root credentials: %s: %w", path, err)
	}
	return c, nil
}

func newRoot(c Credentials) *Root {
	return &Root{c, wire.Caller{
		Account:     DefaultAccount,
		ARN:         "arn:aws:iam::" + DefaultAccount + ":root",
		UserID:      DefaultAccount,
		AccessKeyID: c.AccessKeyID,
		Root:        true,
	}}
}

// Credentials returns what `countersign env` prints and the S3 gateway is told.
func (r *Root) Credentials() Credentials { return r.creds }

// Caller is who the root credentials prove to be.
func (r *Root) Caller() wire.Caller { return r.caller }

// Key implements [Keys].
func (r *Root) Key(_ context.Context, id, _ string) (Key, error) {
	if id != r.creds.AccessKeyID {
		return Key{}, ErrUnknownKey
	}
	return Key{Secret: r.creds.SecretAccessKey, Caller: r.caller}, nil
}
