package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/objects"
	"countersign/internal/release"
	"countersign/internal/wire"
)

// codeIn is where a request says its code is.
type codeIn struct {
	zip                         []byte
	bucket, key, version, image *string
}

// A basis tells what code is to be admitted on, and the policy to ask of it.
type basis func() (release.Basis, *admit.Policy, error)

// rounds is how often code is judged again when its basis moves meanwhile.
const rounds = 5

// deploy stores the code a request brings, asks the gate about it, and hands
// the admission to do, which puts it into a function if what it was admitted
// on still holds. subject is what AWS names in a refusal.
func (l *Lambda) deploy(ctx context.Context, c *wire.Call, in codeIn, subject string, on basis, do func(admit.Admission, release.Basis) error) error {
	// A configuration that does not exist refuses before any code is read.
	if _, _, err := on(); err != nil {
		return err
	}
	code, err := l.open(ctx, c, in)
	if err != nil {
		return err
	}
	defer code.Close()
	digest, _, err := l.Artifacts.Put(ctx, code)
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	for range rounds {
		b, policy, err := on()
		if err != nil {
			return err
		}
		a, err := l.Gate.Admit(ctx, admit.Request{Artifact: digest, Policy: policy})
		if err != nil {
			return refused(err, subject)
		}
		if err := do(a, b); !errors.Is(err, release.ErrMoved) {
			return err
		}
	}
	return release.ErrMoved
}

// open finds the code a request brings.
func (l *Lambda) open(ctx context.Context, c *wire.Call, in codeIn) (io.ReadCloser, error) {
	fromS3 := in.bucket != nil || in.key != nil || in.version != nil
	switch {
	case in.image != nil:
		return nil, notBuilt("Code.ImageUri")
	case in.zip != nil && fromS3:
		return nil, countersign.Errorf(countersign.Invalid, "Please do not provide other FunctionCode parameters when providing a ZipFile.")
	case in.zip != nil:
		if len(in.zip) > codeSizeZipped {
			return nil, countersign.Errorf(countersign.TooLarge, "Zipped size must be smaller than %d bytes", codeSizeZipped)
		}
		return io.NopCloser(bytes.NewReader(in.zip)), nil
	case val(in.bucket) == "" || val(in.key) == "":
		return nil, countersign.Errorf(countersign.Invalid, "Please provide a source for function code.")
	}
	body, info, err := l.Objects.GetObject(ctx, c.Region, *in.bucket, *in.key, val(in.version))
	if err != nil {
		return nil, sourceMissing(err)
	}
	// No archive of Lambda's unzipped size has a file larger than this, and
	// what is larger is not stored to be refused.
	if info.Size > codeSizeUnzipped {
		body.Close()
		return nil, countersign.Errorf(countersign.Invalid, unzippedTooLarge, codeSizeUnzipped)
	}
	return body, nil
}

// codeTooLarge is the reason of an archive over Lambda's unzipped limit
// (countersign.OpenArchive).
const codeTooLarge = "too-large"

// sourceMissing wraps S3's own answer into Lambda's sentence about it.
func sourceMissing(err error) error {
	code, message := objects.CodeOf(err)
	if code == "" {
		return fmt.Errorf("read code from S3: %w", err)
	}
	return countersign.Errorf(countersign.Invalid, "Error occurred while GetObject. S3 Error Code: %s. S3 Error Message: %s", code, message)
}

// Lambda's sentences for code it does not deploy (lambda-code-signing,
// section 2), and for code it cannot read (lambda-core, section 2).
const (
	notProperlySigned = "Lambda cannot deploy the function. The function or layer code is not properly signed. This can mean that the code was signed incorrectly or modified after it was signed. Check the provided signature for %s."
	notAccepted       = "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for %s."
	notUnzipped       = "Could not unzip uploaded file. Please check your file, then try to upload again."
	unzippedTooLarge  = "Unzipped size must be smaller than %d bytes"
)

// refused gives a refusal AWS's name and sentence. The reasons stay in the
// cause, for the record; AWS tells its callers none of them.
func refused(err error, subject string) error {
	var r *countersign.Refusal
	if !errors.As(err, &r) {
		return err
	}
	f := &wire.Fault{Code: "CodeVerificationFailedException", Status: http.StatusBadRequest, Cause: r}
	switch {
	case r.Has(countersign.CheckIntegrity):
		f.Message = fmt.Sprintf(notProperlySigned, subject)
	case r.Has(countersign.CheckArchive):
		f.Code, f.Message = "InvalidParameterValueException", notUnzipped
		for _, x := range r.Reasons {
			if x.Code == codeTooLarge {
				f.Message = fmt.Sprintf(unzippedTooLarge, codeSizeUnzipped)
			}
		}
	default:
		f.Message = fmt.Sprintf(notAccepted, subject)
	}
	return f
}
