package release

import (
	"countersign"
	"countersign/internal/admit"
)

// A Basis is what an admission was decided on: which function, under which
// code signing configuration, in which state of it. Code goes in only while
// its basis holds, so that a configuration whose change was acknowledged
// judges everything that comes after.
type Basis struct {
	function string // id; empty for one that is still to be made
	config   string // ARN, empty for none
	stamp    string // of the configuration
}

// ErrMoved is the answer to code whose basis no longer holds: it has to be
// judged again.
var ErrMoved = countersign.Errorf(countersign.Conflict, "The function or its code signing configuration changed while the code was being verified. Try again.")

// Basis returns what code for the function is to be admitted on, and the
// policy to ask of it, nil where no configuration is attached.
func (fs *Functions) Basis(s Scope, name string) (Basis, *admit.Policy, error) {
	f, err := fs.Get(s, name)
	if err != nil {
		return Basis{}, nil, err
	}
	return fs.basis(s, f.ID, f.Config)
}

// NewBasis is Basis for a function that is to be made with config.
func (fs *Functions) NewBasis(s Scope, config string) (Basis, *admit.Policy, error) {
	return fs.basis(s, "", config)
}

func (fs *Functions) basis(s Scope, id, config string) (Basis, *admit.Policy, error) {
	p, err := fs.PolicyOf(s, config)
	if err != nil {
		return Basis{}, nil, err
	}
	return Basis{id, config, fs.stamp(config)}, p, nil
}

func (fs *Functions) stamp(config string) string {
	c, _ := fs.configs.get(config) // none has no stamp
	return c.Stamp
}

// holds reports whether b is still what code for f has to be admitted on. The
// caller holds fence.
func (fs *Functions) holds(b Basis, f Function) bool {
	return b == Basis{f.ID, f.Config, fs.stamp(f.Config)}
}

// deploy runs write if b holds for f, with no configuration changing between.
func (fs *Functions) deploy(b Basis, f Function, write func() error) error {
	fs.fence.RLock()
	defer fs.fence.RUnlock()
	if !fs.holds(b, f) {
		return ErrMoved
	}
	return write()
}
