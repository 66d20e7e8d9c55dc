// Package seal keeps the platform's own secrets on disk: files only their
// owner can read, and encryption under one master key.
//
// It promises that what was sealed for one purpose opens for that purpose and
// no other, under the key it was sealed with and no other, and only if no bit
// of it was changed; and that a file somebody else could have read is refused
// instead of used. It trusts the operating system's file modes and the random
// source. An attacker who can read the data directory as its owner has the
// master key, unless the key is given from outside ([FromText]).
//
// Encryption is AES-256-GCM (NIST SP 800-38D) with random nonces, under a key
// derived for each purpose by HKDF-SHA256 (RFC 5869).
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
)

const (
	keySize = 32 // AES-256, and the size of the master key
	// version is the first byte of everything sealed, so that a later form can
	// be told apart.
	version = 1
	// FileName is where the master key lies in the data directory: one line of
	// base64.
	FileName = "master.key"
)

// ErrOpen is what [Key.Unseal] returns, wrapped with the purpose, for anything
// that is not ours, not for this purpose or not whole. Which of these it was
// is not told.
var ErrOpen = errors.New("not sealed with this key for this purpose")

// A Key is the master key. It does not print.
type Key struct {
	master [keySize]byte
}

// NewKey makes a random Key.
func NewKey() *Key {
	k := new(Key)
	rand.Read(k.master[:]) // never fails: crypto/rand crashes the program instead
	return k
}

// FromText reads a key as an operator gives it: 32 bytes in standard base64.
// The error does not repeat the text.
func FromText(s string) (*Key, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(s))
	if err != nil || len(b) != keySize {
		return nil, fmt.Errorf("master key is not %d bytes in base64 (try: openssl rand -base64 %d)", keySize, keySize)
	}
	if [keySize]byte(b) == ([keySize]byte{}) {
		return nil, errors.New("master key is all zeros")
	}
	return &Key{[keySize]byte(b)}, nil
}

// Open returns the master key of the data directory dir, and makes it when
// there is none. A text that is not empty is the key instead, and dir is left
// alone.
func Open(dir, text string) (*Key, error) {
	if text != "" {
		return FromText(text)
	}
	path := filepath.Join(dir, FileName)
	b, err := ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = CreateFile(path, []byte(NewKey().text()+"\n"))
		if err == nil || errors.Is(err, fs.ErrExist) { // somebody was first: theirs counts
			b, err = ReadFile(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	k, err := FromText(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func (k *Key) text() string { return base64.StdEncoding.EncodeToString(k.master[:]) }

// Format keeps the key out of every printed form.
func (k *Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[master key]") }

// LogValue keeps the key out of logs.
func (k *Key) LogValue() slog.Value { return slog.StringValue("[master key]") }

// Seal encrypts plain for purpose, a short constant of the caller's such as
// "ca-key". The result is 29 bytes longer.
func (k *Key) Seal(purpose string, plain []byte) ([]byte, error) {
	aead, err := k.aead(purpose)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1, 1+len(plain)+aead.Overhead())
	out[0] = version
	return aead.Seal(out, nil, plain, out[:1]), nil
}

// Unseal returns what was sealed for purpose.
func (k *Key) Unseal(purpose string, sealed []byte) ([]byte, error) {
	aead, err := k.aead(purpose)
	if err != nil {
		return nil, err
	}
	if len(sealed) < 1 || sealed[0] != version {
		return nil, fmt.Errorf("unseal %s: %w", purpose, ErrOpen)
	}
	plain, err := aead.Open(nil, nil, sealed[1:], sealed[:1])
	if err != nil {
		return nil, fmt.Errorf("unseal %s: %w", purpose, ErrOpen)
	}
	return plain, nil
}

// aead derives the purpose's own key, so that no nonce of one purpose can meet
// one of another, and a sealed thing moved to another place does not open.
func (k *Key) aead(purpose string) (cipher.AEAD, error) {
	if purpose == "" {
		return nil, errors.New("seal: no purpose")
	}
	derived, err := hkdf.Key(sha256.New, k.master[:], nil, "countersign seal 1: "+purpose, keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key for %s: %w", purpose, err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("cipher for %s: %w", purpose, err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
