package sign

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
)

// A KeyProvider holds the authority's private keys. A handle is what the
// provider wants to be given back to find a key again: sealed key bytes for
// keys in files, a URI for keys in a token. The authority stores handles beside
// the certificates and never looks into them.
type KeyProvider interface {
	// New makes a P-384 key for role ("root" or "intermediate") and returns it
	// with its handle. A key whose handle was never stored is garbage.
	New(ctx context.Context, role string) (key crypto.Signer, handle []byte, err error)
	// Open finds the key that New gave handle for, under the same role.
	// The caller drops the key as soon as it is done with it.
	Open(ctx context.Context, role string, handle []byte) (crypto.Signer, error)
}

// A Sealer encrypts small secrets at rest. What was sealed for one purpose
// does not open for another.
type Sealer interface {
	Seal(purpose string, plain []byte) ([]byte, error)
	Unseal(purpose string, sealed []byte) ([]byte, error)
}

// SealedKeys is the KeyProvider of keys in files: a handle is the key itself,
// PKCS #8, sealed.
type SealedKeys struct{ Sealer Sealer }

// New implements [KeyProvider].
func (k SealedKeys) New(_ context.Context, role string) (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make %s key: %w", role, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode %s key: %w", role, err)
	}
	defer clear(der)
	handle, err := k.Sealer.Seal(purpose(role), der)
	if err != nil {
		return nil, nil, fmt.Errorf("seal %s key: %w", role, err)
	}
	return key, handle, nil
}

// Open implements [KeyProvider].
func (k SealedKeys) Open(_ context.Context, role string, handle []byte) (crypto.Signer, error) {
	der, err := k.Sealer.Unseal(purpose(role), handle)
	if err != nil {
		return nil, fmt.Errorf("unseal %s key: %w", role, err)
	}
	defer clear(der)
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		// The parser's message could quote key bytes; it stays here.
		return nil, fmt.Errorf("%s key is not PKCS #8", role)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%s key is not on P-384", role)
	}
	return ec, nil
}

func purpose(role string) string { return "ca/" + role }
