package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"

	"countersign"
	"countersign/internal/store"
)

const (
	rootYears         = 100 // as AWS's own Signer root: trust files are not replaced
	intermediateYears = 10
	// intermediateSpare is how long before its end an intermediate is replaced.
	// No leaf lives longer than the certificate that issued it.
	intermediateSpare = 90 * 24 * time.Hour
	// skew backdates the root and the first intermediate, so that a clock set
	// back a little after the first start does not stop signing.
	skew = 24 * time.Hour

	rootFile         = "root.pem"
	intermediateFile = "intermediate.pem"
	handleBlock      = "COUNTERSIGN KEY HANDLE"
)

// An Authority is the platform's own certificate authority: a root that signs
// intermediates, an intermediate that signs leaves, and leaves that sign
// statements, P-384 and SHA-384 throughout.
//
// On disk it is a directory of two files, each a certificate and its key's
// handle. The root's key is opened only while an intermediate is being issued,
// so a server that runs never has it in memory. Leaf keys are never written at
// all: see [leaf].
//
// An attacker who can read the directory has certificates and sealed keys. One
// who can write it can break signing, and is found out: the store remembers
// the root's fingerprint.
type Authority struct {
	dir  string
	keys KeyProvider
	now  func() time.Time
	root *x509.Certificate

	mu     sync.Mutex // held while a certificate is issued, never while signing
	issuer pair       // the intermediate; guarded by mu
	leaves map[string]*leaf
}

// pair is a certificate and its key.
type pair struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// AuthorityConfig is what an [Authority] needs. All but Instance and Now must be set.
type AuthorityConfig struct {
	Dir      string      // where the two files are; its parent must exist
	Keys     KeyProvider // who holds the private keys
	Store    store.Store // remembers which root this platform has
	Instance string      // the platform's name in certificate subjects, at most 40 characters; random when empty. Used at creation only
	Now      func() time.Time
}

// A LostError says that the authority this platform signs with is not where it
// was. Nothing is made in its place: signatures that exist chain to it.
type LostError struct {
	Dir         string
	Fingerprint string // SHA-256 of the root certificate the store remembers, hex
	Err         error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("certificate authority with root %s… is not in %s: %v", e.Fingerprint[:min(16, len(e.Fingerprint))], e.Dir, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Hint is what to do about it, for people.
func (e *LostError) Hint() string {
	return "restore " + e.Dir + " from a backup: every signature made so far chains to that root, and no new root is made over an old one"
}

// remembered is the store's record of the root.
type remembered struct {
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the DER certificate, hex
	Subject     string    `json:"subject"`
	Created     time.Time `json:"created"`
}

// OpenAuthority opens the authority in cfg.Dir. On the very first start it
// makes one; a crash while it does leaves nothing that is ever used. An
// authority the store remembers and the directory does not have is a
// [*LostError].
func OpenAuthority(ctx context.Context, cfg AuthorityConfig) (*Authority, error) {
	a := &Authority{dir: cfg.Dir, keys: cfg.Keys, now: cfg.Now, leaves: map[string]*leaf{}}
	if a.now == nil {
		a.now = time.Now
	}
	b, err := cfg.Store.Bucket(ctx, "signauthority")
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	mem, err := recall(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	absent, err := emptyDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if absent {
		if mem.Fingerprint != "" {
			return nil, &LostError{cfg.Dir, mem.Fingerprint, fs.ErrNotExist}
		}
		if err := a.create(ctx, cfg.Instance); err != nil {
			return nil, fmt.Errorf("create authority: %w", err)
		}
	}
	if err := a.open(ctx); err != nil {
		if mem.Fingerprint != "" && errors.Is(err, fs.ErrNotExist) {
			return nil, &LostError{cfg.Dir, mem.Fingerprint, err}
		}
		return nil, fmt.Errorf("open authority: %w", err)
	}
	if mem.Fingerprint == "" {
		// The directory is whole and the store is new, or a crash came between
		// the two: from now on this root is the platform's.
		if mem, err = a.remember(ctx, b); err != nil {
			return nil, fmt.Errorf("open authority: %w", err)
		}
	}
	if got := a.Fingerprint(); got != mem.Fingerprint {
		return nil, &LostError{cfg.Dir, mem.Fingerprint, fmt.Errorf("found root %s… there", got[:16])}
	}
	return a, nil
}

// recall reads the store's record; it is zero when there is none.
func recall(ctx context.Context, b store.Bucket) (mem remembered, err error) {
	v, _, err := b.Get(ctx, "root")
	if errors.Is(err, store.ErrNotFound) {
		return remembered{}, nil
	}
	if err == nil {
		err = json.Unmarshal(v, &mem)
	}
	if err != nil {
		return remembered{}, fmt.Errorf("recall root: %w", err)
	}
	return mem, nil
}

// remember makes the record, or returns the one somebody else just made.
func (a *Authority) remember(ctx context.Context, b store.Bucket) (remembered, error) {
	mem := remembered{a.Fingerprint(), a.root.Subject.String(), a.now().UTC()}
	v, err := json.Marshal(mem)
	if err != nil {
		return remembered{}, fmt.Errorf("remember root: %w", err)
	}
	_, err = b.Create(ctx, "root", v)
	if errors.Is(err, store.ErrExists) {
		return recall(ctx, b)
	}
	if err != nil {
		return remembered{}, fmt.Errorf("remember root: %w", err)
	}
	return mem, nil
}

// Root returns the root certificate. It is shared: do not change it.
func (a *Authority) Root() *x509.Certificate { return a.root }

// RootPEM returns the root certificate as outsiders pin it.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Fingerprint returns the SHA-256 of the root certificate, lower-case hex.
func (a *Authority) Fingerprint() string {
	d := sha256.Sum256(a.root.Raw)
	return hex.EncodeToString(d[:])
}

// Trust returns the trust that accepts this authority's signatures, the strict
// digest demanded.
func (a *Authority) Trust() countersign.Trust {
	return countersign.Trust{Roots: []countersign.Root{{Cert: a.root, RequireStrict: true}}}
}

// create makes the directory in one step: it is built beside its place and
// renamed. Of two that try, one wins and the other opens the winner's.
func (a *Authority) create(ctx context.Context, instance string) error {
	if instance == "" {
		var b [8]byte
		rand.Read(b[:])
		instance = hex.EncodeToString(b[:])
	}
	if len(instance) > 40 { // ub-common-name is 64, and the CN says what it is too
		return fmt.Errorf("instance name %q is longer than 40 characters", instance)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(a.dir), "."+filepath.Base(a.dir)+"-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // nothing is left there after the rename

	rootKey, rootHandle, err := a.keys.New(ctx, "root")
	if err != nil {
		return err
	}
	root, err := issueRoot(rootKey, instance, a.now())
	if err != nil {
		return fmt.Errorf("issue root: %w", err)
	}
	if err := writePair(filepath.Join(tmp, rootFile), root, rootHandle); err != nil {
		return err
	}
	key, handle, err := a.keys.New(ctx, "intermediate")
	if err != nil {
		return err
	}
	inter, err := issueIntermediate(pair{root, rootKey}, key.Public(), a.now())
	if err != nil {
		return fmt.Errorf("issue intermediate: %w", err)
	}
	if err := writePair(filepath.Join(tmp, intermediateFile), inter, handle); err != nil {
		return err
	}
	if err := syncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, a.dir); err != nil {
		if absent, aerr := emptyDir(a.dir); aerr == nil && !absent {
			return nil // somebody else's is there now; open judges it
		}
		return err
	}
	return syncDir(filepath.Dir(a.dir))
}

// open reads both files and checks that they belong together. It opens the
// intermediate's key and leaves the root's sealed, unless the intermediate
// nears its end.
func (a *Authority) open(ctx context.Context) error {
	root, _, err := readPair(filepath.Join(a.dir, rootFile))
	if err != nil {
		return err
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("%s: not a root: %w", rootFile, err)
	}
	a.root = root
	inter, handle, err := readPair(filepath.Join(a.dir, intermediateFile))
	if err != nil {
		return err
	}
	if err := inter.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("%s: not issued by %s: %w", intermediateFile, rootFile, err)
	}
	key, err := a.keys.Open(ctx, "intermediate", handle)
	if err != nil {
		return err
	}
	if err := sameKey(inter, key); err != nil {
		return fmt.Errorf("%s: %w", intermediateFile, err)
	}
	a.issuer = pair{inter, key}
	return a.renewIssuer(ctx)
}

// renewIssuer replaces the intermediate when less than intermediateSpare is
// left of it. Old signatures carry the old one with them and need nothing from
// here. Called by open, and with mu held.
func (a *Authority) renewIssuer(ctx context.Context) error {
	now := a.now()
	if now.Before(a.issuer.cert.NotAfter.Add(-intermediateSpare)) {
		return nil
	}
	root, rootHandle, err := readPair(filepath.Join(a.dir, rootFile))
	if err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	rootKey, err := a.keys.Open(ctx, "root", rootHandle)
	if err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	if err := sameKey(root, rootKey); err != nil {
		return fmt.Errorf("renew intermediate: %s: %w", rootFile, err)
	}
	key, handle, err := a.keys.New(ctx, "intermediate")
	if err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	inter, err := issueIntermediate(pair{root, rootKey}, key.Public(), now)
	if err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	// Written beside and renamed: a crash leaves the old one or the new one.
	path := filepath.Join(a.dir, intermediateFile)
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	if err := writePair(next, inter, handle); err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	if err := syncDir(a.dir); err != nil {
		return fmt.Errorf("renew intermediate: %w", err)
	}
	a.issuer = pair{inter, key}
	clear(a.leaves) // their chains end at the old one
	return nil
}

func subject(instance, cn string) pkix.Name {
	return pkix.Name{Organization: []string{"Countersign"}, OrganizationalUnit: []string{instance}, CommonName: cn}
}

func issueRoot(key crypto.Signer, instance string, now time.Time) (*x509.Certificate, error) {
	from := now.Add(-skew).UTC()
	t := &x509.Certificate{
		Subject:               subject(instance, "Countersign Root CA "+instance),
		NotBefore:             from,
		NotAfter:              from.AddDate(rootYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}
	return issue(t, nil, key.Public(), key)
}

// issueIntermediate limits what it issues to one level and to code signing:
// whoever steals its key can sign code until it is found out, and nothing else.
func issueIntermediate(root pair, pub crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	instance := root.cert.Subject.OrganizationalUnit[0]
	from := now.Add(-skew).UTC()
	if from.Before(root.cert.NotBefore) {
		from = root.cert.NotBefore
	}
	t := &x509.Certificate{
		Subject:               subject(instance, "Countersign Signing CA "+instance),
		NotBefore:             from,
		NotAfter:              earlier(from.AddDate(intermediateYears, 0, 0), root.cert.NotAfter),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	return issue(t, root.cert, pub, root.key)
}

// issue signs t with a random serial and the RFC 7093 key identifier. A nil
// parent makes it self-signed.
func issue(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial := make([]byte, 20)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always 20 octets (RFC 5280 §4.1.2.2)
	t.SerialNumber = new(big.Int).SetBytes(serial)
	t.SignatureAlgorithm = x509.ECDSAWithSHA384
	id, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	t.SubjectKeyId = id
	if parent == nil {
		parent = t
		t.AuthorityKeyId = id
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyID is the leftmost 160 bits of the SHA-256 of the key's bit string
// (RFC 7093 §2, method 1).
func keyID(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	bits, err := subjectPublicKey(spki)
	if err != nil {
		return nil, err
	}
	d := sha256.Sum256(bits)
	return d[:20], nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func sameKey(c *x509.Certificate, key crypto.Signer) error {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(c.PublicKey) {
		return errors.New("the certificate and the key are not a pair")
	}
	return nil
}

// writePair writes a new file, 0600, and syncs it.
func writePair(path string, c *x509.Certificate, handle []byte) error {
	var buf bytes.Buffer
	for _, b := range []*pem.Block{{Type: "CERTIFICATE", Bytes: c.Raw}, {Type: handleBlock, Bytes: handle}} {
		if err := pem.Encode(&buf, b); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Base(path), err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(buf.Bytes())
	return errors.Join(err, f.Sync(), f.Close())
}

func readPair(path string) (*x509.Certificate, []byte, error) {
	name := filepath.Base(path)
	fi, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, nil, fmt.Errorf("%s has mode %04o: a key file must be its owner's alone (chmod 600)", path, fi.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	cb, rest := pem.Decode(text)
	if cb == nil || cb.Type != "CERTIFICATE" {
		return nil, nil, fmt.Errorf("%s does not begin with a certificate", name)
	}
	hb, _ := pem.Decode(rest)
	if hb == nil || hb.Type != handleBlock {
		return nil, nil, fmt.Errorf("%s has no key handle after its certificate", name)
	}
	c, err := x509.ParseCertificate(cb.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, hb.Bytes, nil
}

// emptyDir reports whether nothing is at dir, or an empty directory.
func emptyDir(dir string) (bool, error) {
	es, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(es) == 0, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
