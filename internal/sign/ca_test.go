package sign_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"countersign"
	"countersign/internal/guard/seal"
	"countersign/internal/sign"
	"countersign/internal/store/storetest"
)

// The guard's master key is what seals keys in a platform.
var _ sign.Sealer = (*seal.Key)(nil)

// statement is what a job of profile version v would sign at a time.
func statement(v string, at time.Time) countersign.Statement {
	return countersign.Statement{
		Job:            "arn:aws:signer:eu-central-1:000000000000:/signing-jobs/0f1e2d3c-4b5a-4678-8796-a5b4c3d2e1f0",
		ProfileVersion: "arn:aws:signer:eu-central-1:000000000000:/signing-profiles/prod/" + v,
		SignedAt:       at,
		Expires:        at.AddDate(1, 0, 0),
		Strict:         new(countersign.ContentDigest{1}),
	}
}

// chainOf signs and returns the certificates the signature carries.
func chainOf(t *testing.T, a *sign.Authority, st countersign.Statement) []*x509.Certificate {
	t.Helper()
	sf, err := a.Sign(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := countersign.ParseSignature(sf)
	if err != nil {
		t.Fatal(err)
	}
	if len(sig.Chain) != 3 {
		t.Fatalf("got a chain of %d, want leaf, intermediate, root", len(sig.Chain))
	}
	return sig.Chain
}

func TestCertificatesFollowTheirProfile(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	a, err := p.authority(t.Context(), t)
	if err != nil {
		t.Fatal(err)
	}
	st := statement("xs0tKyVsGC", p.clock.now())
	chain := chainOf(t, a, st)
	leaf, inter, root := chain[0], chain[1], chain[2]

	for _, c := range chain {
		if c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
			t.Errorf("%s: got %v, want ECDSA with SHA-384", c.Subject, c.SignatureAlgorithm)
		}
		if n := len(c.SerialNumber.Bytes()); n != 20 || c.SerialNumber.Sign() < 0 {
			t.Errorf("%s: got a serial of %d octets, want 20, positive", c.Subject, n)
		}
		if !slices.Equal(c.Subject.Organization, []string{"Countersign"}) || !slices.Equal(c.Subject.OrganizationalUnit, []string{"test platform"}) {
			t.Errorf("got subject %s, want one that names Countersign and the platform", c.Subject)
		}
		if len(c.SubjectKeyId) != 20 {
			t.Errorf("%s: got a key id of %d octets, want 20", c.Subject, len(c.SubjectKeyId))
		}
		if len(c.UnhandledCriticalExtensions) > 0 {
			t.Errorf("%s: critical extensions nobody knows: %v", c.Subject, c.UnhandledCriticalExtensions)
		}
	}
	for i, c := range chain {
		issuer := chain[min(i+1, 2)]
		if !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
			t.Errorf("%s: authority key id is not its issuer's", c.Subject)
		}
	}
	if !root.IsCA || root.MaxPathLen != 1 || root.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("root: got CA %v, path length %d, usage %b", root.IsCA, root.MaxPathLen, root.KeyUsage)
	}
	if !inter.IsCA || inter.MaxPathLen != 0 || !inter.MaxPathLenZero || inter.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
		t.Errorf("intermediate: got CA %v, path length %d, usage %b", inter.IsCA, inter.MaxPathLen, inter.KeyUsage)
	}
	if leaf.IsCA || leaf.KeyUsage != x509.KeyUsageDigitalSignature || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) {
		t.Errorf("leaf: got CA %v, usage %b, extended %v", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != st.ProfileVersion {
		t.Errorf("leaf: got names %v, want the profile version", leaf.URIs)
	}
	now := p.clock.now()
	for _, c := range []struct {
		cert *x509.Certificate
		end  time.Time
	}{{root, now.AddDate(100, 0, -1)}, {inter, now.AddDate(10, 0, -1)}, {leaf, now.AddDate(0, 0, 7)}} {
		if d := c.cert.NotAfter.Sub(c.end).Abs(); d > time.Second {
			t.Errorf("%s: ends %s, want %s", c.cert.Subject, c.cert.NotAfter, c.end)
		}
	}

	roots, inters := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(a.Root())
	inters.AddCert(inter)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}); err != nil {
		t.Errorf("the chain does not verify: %v", err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inters, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("the chain verifies for a TLS server, want code signing alone")
	}
	b, _ := pem.Decode(a.RootPEM())
	if b == nil || !bytes.Equal(b.Bytes, root.Raw) {
		t.Error("RootPEM is not the root of the chain")
	}
}

func TestLeavesAreKeptForADayAndNotShared(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	a, err := p.authority(t.Context(), t)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(v string) string {
		return chainOf(t, a, statement(v, p.clock.now()))[0].SerialNumber.String()
	}
	first := serial("aaaaaaaaaa")
	p.clock.add(24*time.Hour - 2*time.Second)
	if got := serial("aaaaaaaaaa"); got != first {
		t.Error("a new leaf within its day, want the same")
	}
	if got := serial("bbbbbbbbbb"); got == first {
		t.Error("two profile versions share a leaf")
	}
	p.clock.add(3 * time.Second)
	second := serial("aaaaaaaaaa")
	if second == first {
		t.Error("the leaf signs on after its day")
	}
	// A clock that was set back cannot use a certificate of the future.
	p.clock.add(-48*time.Hour + 10*time.Minute)
	if c := chainOf(t, a, statement("aaaaaaaaaa", p.clock.now()))[0]; c.NotBefore.After(p.clock.now()) {
		t.Errorf("leaf begins %s, after the signature at %s", c.NotBefore, p.clock.now())
	}
}

func TestClockBeforeTheAuthorityRefusesToSign(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	a, err := p.authority(t.Context(), t)
	if err != nil {
		t.Fatal(err)
	}
	p.clock.set(time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC))
	if _, err := a.Sign(t.Context(), statement("aaaaaaaaaa", p.clock.now())); err == nil || !strings.Contains(err.Error(), "set the clock") {
		t.Errorf("got %v, want a word about the clock", err)
	}
}

// countingKeys counts what is opened, by role.
type countingKeys struct {
	sign.KeyProvider
	mu     sync.Mutex
	opened map[string]int // guarded by mu
}

func (k *countingKeys) Open(ctx context.Context, role string, handle []byte) (crypto.Signer, error) {
	k.mu.Lock()
	k.opened[role]++
	k.mu.Unlock()
	return k.KeyProvider.Open(ctx, role, handle)
}

func TestRootKeyIsOpenedForIntermediatesOnly(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	keys := &countingKeys{KeyProvider: sign.SealedKeys{Sealer: newBox(t, "test")}, opened: map[string]int{}}
	cfg := sign.AuthorityConfig{Dir: p.dir, Keys: keys, Store: p.store, Now: p.clock.now}
	open := func() *sign.Authority {
		a, err := sign.OpenAuthority(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	old := chainOf(t, a, statement("aaaaaaaaaa", p.clock.now()))
	a = open()
	if keys.opened["root"] != 0 {
		t.Errorf("root key opened %d times by starts and signatures, want 0", keys.opened["root"])
	}

	// Near its end the intermediate is replaced, in a running server too.
	p.clock.set(old[1].NotAfter.Add(-89 * 24 * time.Hour))
	next := chainOf(t, a, statement("aaaaaaaaaa", p.clock.now()))
	if keys.opened["root"] != 1 {
		t.Errorf("root key opened %d times, want once", keys.opened["root"])
	}
	if next[1].Equal(old[1]) || !next[2].Equal(old[2]) {
		t.Error("want a new intermediate under the old root")
	}
	if next[0].NotAfter.After(next[1].NotAfter) {
		t.Error("the leaf outlives its issuer")
	}
	// And the new one is what the next start finds.
	again := chainOf(t, open(), statement("aaaaaaaaaa", p.clock.now()))
	if !again[1].Equal(next[1]) || keys.opened["root"] != 1 {
		t.Error("a start after the renewal does not use the renewed intermediate")
	}
}

func TestAuthorityStaysTheSame(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	a, err := p.authority(t.Context(), t)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.authority(t.Context(), t)
	if err != nil {
		t.Fatal(err)
	}
	if a.Fingerprint() != b.Fingerprint() {
		t.Error("a second start made a second root")
	}
	fi, err := os.Stat(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != 0o700 {
		t.Errorf("directory has mode %o, want 700", got)
	}
	es, err := os.ReadDir(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
		i, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if got := i.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", e.Name(), got)
		}
		text, err := os.ReadFile(filepath.Join(p.dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for rest := text; ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			if _, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
				t.Errorf("%s holds a private key in the clear", e.Name())
			}
		}
	}
	if want := []string{"intermediate.pem", "root.pem"}; !slices.Equal(names, want) {
		t.Errorf("got files %v, want %v", names, want)
	}
	around, err := os.ReadDir(filepath.Dir(p.dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(around) != 1 {
		t.Errorf("creation left something behind: %v", around)
	}
}

func TestManyStartsMakeOneAuthority(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	prints := make([]string, 8)
	var wg sync.WaitGroup
	for i := range prints {
		wg.Go(func() {
			a, err := p.authority(t.Context(), t)
			if err != nil {
				t.Error(err)
				return
			}
			prints[i] = a.Fingerprint()
		})
	}
	wg.Wait()
	for _, f := range prints {
		if f != prints[0] {
			t.Fatalf("got several roots: %v", prints)
		}
	}
}

func TestLostAuthorityIsNotReplaced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		lose func(t *testing.T, dir string)
	}{
		{"directory gone", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)) }},
		{"directory emptied", func(t *testing.T, dir string) { must(t, os.RemoveAll(dir)); must(t, os.Mkdir(dir, 0o700)) }},
		{"root gone", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "root.pem"))) }},
		{"intermediate gone", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "intermediate.pem"))) }},
		{"another's in its place", func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			_, err := sign.OpenAuthority(t.Context(), sign.AuthorityConfig{Dir: dir, Keys: sign.SealedKeys{Sealer: newBox(t, "test")}, Store: storetest.Memory()})
			must(t, err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, storetest.Memory())
			a, err := p.authority(t.Context(), t)
			must(t, err)
			c.lose(t, p.dir)
			before := listing(t, p.dir)
			_, err = p.authority(t.Context(), t)
			var lost *sign.LostError
			if !errors.As(err, &lost) {
				t.Fatalf("got %v, want a LostError", err)
			}
			if lost.Fingerprint != a.Fingerprint() || !strings.Contains(lost.Hint(), "backup") {
				t.Errorf("got fingerprint %s and hint %q", lost.Fingerprint, lost.Hint())
			}
			if after := listing(t, p.dir); !slices.Equal(before, after) {
				t.Errorf("opening changed the directory from %v to %v", before, after)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func TestDamagedAuthorityIsRefused(t *testing.T) {
	t.Parallel()
	swap := func(t *testing.T, dir, a, b string) { // certificate of a with the handle of b
		at, err := os.ReadFile(filepath.Join(dir, a))
		must(t, err)
		bt, err := os.ReadFile(filepath.Join(dir, b))
		must(t, err)
		_, ah := pem.Decode(at)
		_, bh := pem.Decode(bt)
		must(t, os.WriteFile(filepath.Join(dir, a), append(bytes.TrimSuffix(at, ah), bh...), 0o600))
	}
	for _, c := range []struct {
		name, want string
		damage     func(t *testing.T, dir string)
	}{
		{"readable by others", "chmod 600", func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "intermediate.pem"), 0o640)) }},
		{"cut off", "key handle", func(t *testing.T, dir string) {
			path := filepath.Join(dir, "intermediate.pem")
			text, err := os.ReadFile(path)
			must(t, err)
			_, rest := pem.Decode(text)
			must(t, os.WriteFile(path, bytes.TrimSuffix(text, rest), 0o600))
		}},
		{"empty", "certificate", func(t *testing.T, dir string) { must(t, os.Truncate(filepath.Join(dir, "root.pem"), 0)) }},
		// The handle was sealed for the other role, and does not open for this one.
		{"the root's key for the intermediate", "unseal", func(t *testing.T, dir string) { swap(t, dir, "intermediate.pem", "root.pem") }},
		{"another authority's key", "not a pair", func(t *testing.T, dir string) {
			other := filepath.Join(t.TempDir(), "ca")
			_, err := sign.OpenAuthority(t.Context(), sign.AuthorityConfig{Dir: other, Keys: sign.SealedKeys{Sealer: newBox(t, "test")}, Store: storetest.Memory()})
			must(t, err)
			must(t, os.Rename(filepath.Join(other, "intermediate.pem"), filepath.Join(dir, "other.pem")))
			swap(t, dir, "intermediate.pem", "other.pem")
		}},
		{"the root for the intermediate", "unseal", func(t *testing.T, dir string) {
			text, err := os.ReadFile(filepath.Join(dir, "root.pem"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "intermediate.pem"), text, 0o600))
		}},
		{"an intermediate for the root", "not a root", func(t *testing.T, dir string) {
			text, err := os.ReadFile(filepath.Join(dir, "intermediate.pem"))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, "root.pem"), text, 0o600))
		}},
		{"an intermediate of another root", "not issued by", func(t *testing.T, dir string) {
			other := filepath.Join(t.TempDir(), "ca")
			_, err := sign.OpenAuthority(t.Context(), sign.AuthorityConfig{Dir: other, Keys: sign.SealedKeys{Sealer: newBox(t, "test")}, Store: storetest.Memory(), Instance: "test platform"})
			must(t, err)
			must(t, os.Rename(filepath.Join(other, "intermediate.pem"), filepath.Join(dir, "intermediate.pem")))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t, storetest.Memory())
			_, err := p.authority(t.Context(), t)
			must(t, err)
			c.damage(t, p.dir)
			if _, err := p.authority(t.Context(), t); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something about %q", err, c.want)
			}
		})
	}
}

func TestKeysOfAnotherMasterKeyDoNotOpen(t *testing.T) {
	t.Parallel()
	p := prepare(t, storetest.Memory())
	_, err := p.authority(t.Context(), t)
	must(t, err)
	_, err = sign.OpenAuthority(t.Context(), sign.AuthorityConfig{Dir: p.dir, Keys: sign.SealedKeys{Sealer: newBox(t, "another")}, Store: p.store, Now: p.clock.now})
	if err == nil || !strings.Contains(err.Error(), "unseal intermediate key") {
		t.Errorf("got %v, want that the key does not unseal", err)
	}
}

// failingKeys fails at its n-th call, as a disk that is full or a token that
// was pulled would.
type failingKeys struct {
	sign.KeyProvider
	left int
}

var errKeys = errors.New("no key today")

func (k *failingKeys) New(ctx context.Context, role string) (crypto.Signer, []byte, error) {
	if k.left--; k.left < 0 {
		return nil, nil, errKeys
	}
	return k.KeyProvider.New(ctx, role)
}

func TestHalfMadeAuthorityIsNeverUsed(t *testing.T) {
	t.Parallel()
	for n := range 2 {
		p := prepare(t, storetest.Memory())
		keys := &failingKeys{sign.SealedKeys{Sealer: newBox(t, "test")}, n}
		cfg := sign.AuthorityConfig{Dir: p.dir, Keys: keys, Store: p.store, Now: p.clock.now}
		if _, err := sign.OpenAuthority(t.Context(), cfg); !errors.Is(err, errKeys) {
			t.Fatalf("after %d keys: got %v, want %v", n, err, errKeys)
		}
		if _, err := os.Stat(p.dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %d keys: the directory is there: %v", n, err)
		}
		if _, err := p.authority(t.Context(), t); err != nil {
			t.Errorf("after %d keys: the next start: %v", n, err)
		}
	}

	// A crash before the rename leaves the directory under its other name.
	p := prepare(t, storetest.Memory())
	must(t, os.Mkdir(filepath.Join(filepath.Dir(p.dir), ".ca-crashed"), 0o700))
	if _, err := p.authority(t.Context(), t); err != nil {
		t.Errorf("beside a crashed attempt: %v", err)
	}
	// A crash between the rename and the store's record leaves a whole
	// authority that the next start takes over.
	a, err := sign.OpenAuthority(t.Context(), sign.AuthorityConfig{Dir: p.dir, Keys: sign.SealedKeys{Sealer: newBox(t, "test")}, Store: storetest.Memory(), Now: p.clock.now})
	must(t, err)
	b, err := p.authority(t.Context(), t)
	must(t, err)
	if a.Fingerprint() != b.Fingerprint() {
		t.Error("a store without a record made a second root")
	}
}
