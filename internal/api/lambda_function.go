package api

import (
	"context"
	"maps"
	"math"
	"strconv"
	"strings"

	"countersign"
	"countersign/internal/admit"
	"countersign/internal/release"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

func (l *Lambda) createFunction(ctx context.Context, c *wire.Call, in *lambda.CreateFunctionRequest) (*lambda.FunctionConfiguration, error) {
	r, err := newName(c, *in.FunctionName)
	if err != nil {
		return nil, err
	}
	settings, err := l.newSettings(r.name, in)
	if err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	// A name that is taken is said before anybody reads code for it. What
	// counts is the store's answer, below.
	if _, err := l.Functions.Get(r.scope, r.name); err == nil {
		return nil, countersign.Errorf(countersign.Exists, "Function already exist: %s", r.name)
	}
	// Create names the function in a refusal as the caller did.
	code := codeIn{zip: in.Code.ZipFile, bucket: in.Code.S3Bucket, key: in.Code.S3Key, version: in.Code.S3ObjectVersion, image: in.Code.ImageUri}
	on := func() (release.Basis, *admit.Policy, error) {
		return l.Functions.NewBasis(r.scope, val(in.CodeSigningConfigArn))
	}
	var v release.Version
	err = l.deploy(ctx, c, code, *in.FunctionName, on, func(a admit.Admission, b release.Basis) (err error) {
		v, err = l.Functions.Create(ctx, release.NewFunction{
			Scope: r.scope, Name: r.name, Settings: settings, Code: a, Basis: b,
			Config: val(in.CodeSigningConfigArn), Tags: in.Tags, Publish: val(in.Publish),
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	// Unqualified even when it is version 1.
	return configuration(v, v.ARN(), full), nil
}

// newName reads the name of a function to be made.
func newName(c *wire.Call, name string) (ref, error) {
	r, err := parseRef(c, name, nil)
	if err != nil {
		return ref{}, err
	}
	if len(r.name) > 64 {
		return ref{}, countersign.Errorf(countersign.Invalid, "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64", name)
	}
	return r, nil
}

func (l *Lambda) getFunction(_ context.Context, c *wire.Call, in *lambda.GetFunctionRequest) (*lambda.GetFunctionResponse, error) {
	r, err := parseRef(c, *in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	v, err := l.primary(r)
	if err != nil {
		return nil, err
	}
	f, err := l.Functions.Get(r.scope, r.name)
	if err != nil {
		return nil, err
	}
	out := &lambda.GetFunctionResponse{
		Configuration: configuration(v, r.arn(), full),
		Code:          &lambda.FunctionCodeLocation{RepositoryType: new("S3"), Location: new(l.CodeLink(c, v.Code.Artifact))},
	}
	if len(f.Tags) > 0 {
		out.Tags = f.Tags
	}
	return out, nil
}

func (l *Lambda) getFunctionConfiguration(_ context.Context, c *wire.Call, in *lambda.GetFunctionConfigurationRequest) (*lambda.FunctionConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	v, err := l.primary(r)
	if err != nil {
		return nil, err
	}
	return configuration(v, r.arn(), full), nil
}

func (l *Lambda) listFunctions(_ context.Context, c *wire.Call, in *lambda.ListFunctionsRequest) (*lambda.ListFunctionsResponse, error) {
	limit := page(in.MaxItems, listTop)
	out := &lambda.ListFunctionsResponse{Functions: []*lambda.FunctionConfiguration{}}
	if in.MasterRegion != nil && *in.MasterRegion != "ALL" && *in.MasterRegion != c.Region {
		return out, nil // no function here is the replica of another region's
	}
	if val(in.FunctionVersion) == "ALL" {
		return l.listEveryVersion(c, val(in.Marker), limit)
	}
	fs, more := l.Functions.List(scope(c), val(in.Marker), limit)
	for _, f := range fs {
		out.Functions = append(out.Functions, configuration(f.Latest, f.Latest.ARN(), listed))
		out.NextMarker = marker(more, f.Latest.Name)
	}
	return out, nil
}

// listEveryVersion lists $LATEST and the published versions of every
// function. Its marker is NAME:NUMBER, the last version shown.
func (l *Lambda) listEveryVersion(c *wire.Call, from string, limit int) (*lambda.ListFunctionsResponse, error) {
	out := &lambda.ListFunctionsResponse{Functions: []*lambda.FunctionConfiguration{}}
	// add reports whether there was room.
	add := func(v release.Version) bool {
		if len(out.Functions) == limit {
			return false
		}
		out.Functions = append(out.Functions, configuration(v, v.ARN()+":"+v.Qualifier(), listed))
		out.NextMarker = new(v.Name + ":" + strconv.Itoa(v.Number))
		return true
	}
	versions := func(name string, after int) (bool, error) {
		for {
			vs, more, err := l.Functions.Versions(scope(c), name, after, limit+1)
			if err != nil {
				return true, nil // deleted between the two reads
			}
			for _, v := range vs {
				if !add(v) {
					return false, nil
				}
				after = v.Number
			}
			if !more {
				return true, nil
			}
		}
	}
	name := ""
	if m := functionName.FindStringSubmatch(from); m != nil {
		name = m[3]
		n, _ := strconv.Atoi(m[4]) // a marker of nobody's starts the function over
		if room, err := versions(name, n); err != nil || !room {
			return out, err
		}
	}
	for {
		fs, more := l.Functions.List(scope(c), name, listTop)
		for _, f := range fs {
			name = f.Latest.Name
			if !add(f.Latest) {
				return out, nil
			}
			if room, err := versions(name, 0); err != nil || !room {
				return out, err
			}
		}
		if !more {
			out.NextMarker = nil
			return out, nil
		}
	}
}

func (l *Lambda) updateFunctionCode(ctx context.Context, c *wire.Call, in *lambda.UpdateFunctionCodeRequest) (*lambda.FunctionConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	f, err := l.Functions.Get(r.scope, r.name)
	if err != nil {
		return nil, err
	}
	if in.ImageUri != nil {
		return nil, countersign.Errorf(countersign.Invalid, "Please don't provide ImageUri when updating a function with packageType Zip.")
	}
	if rev := val(in.RevisionId); rev != "" && rev != f.Latest.Revision {
		// Said before the code is judged; the store checks again.
		return nil, countersign.Errorf(countersign.Stale, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	}
	arch := architecture(in.Architectures, "")
	code := codeIn{zip: in.ZipFile, bucket: in.S3Bucket, key: in.S3Key, version: in.S3ObjectVersion}
	on := func() (release.Basis, *admit.Policy, error) { return l.Functions.Basis(r.scope, r.name) }
	var v release.Version
	err = l.deploy(ctx, c, code, f.Latest.ARN(), on, func(a admit.Admission, b release.Basis) (err error) {
		if val(in.DryRun) {
			v = dryRun(f.Latest, a, arch)
			return nil
		}
		v, err = l.Functions.UpdateCode(ctx, r.scope, r.name, val(in.RevisionId), a, b, arch)
		return err
	})
	if err != nil {
		return nil, err
	}
	if val(in.Publish) && !val(in.DryRun) {
		if v, err = l.Functions.PublishUnsettled(ctx, r.scope, r.name); err != nil {
			return nil, err
		}
	}
	return configuration(v, versionARN(v), full), nil
}

// dryRun is v as the update would have left it.
func dryRun(v release.Version, a admit.Admission, arch string) release.Version {
	rec := a.Record()
	v.Code = release.Code{Artifact: rec.Artifact, Size: rec.Size, Admission: rec}
	if arch != "" {
		v.Settings.Architecture = arch
	}
	return v
}

func (l *Lambda) updateFunctionConfiguration(ctx context.Context, c *wire.Call, in *lambda.UpdateFunctionConfigurationRequest) (*lambda.FunctionConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if _, err := l.Functions.Get(r.scope, r.name); err != nil {
		return nil, err
	}
	v, err := l.Functions.UpdateSettings(ctx, r.scope, r.name, val(in.RevisionId), func(s *release.Settings) error {
		return l.changeSettings(s, in)
	})
	if err != nil {
		return nil, err
	}
	return configuration(v, v.ARN(), full), nil
}

func (l *Lambda) deleteFunction(ctx context.Context, c *wire.Call, in *lambda.DeleteFunctionRequest) (*wire.None, error) {
	r, err := parseRef(c, *in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	switch {
	case r.qualifier == "":
		return none(l.Functions.Delete(ctx, r.scope, r.name))
	case r.qualifier == release.Latest:
		return nil, countersign.Errorf(countersign.Invalid, "$LATEST version cannot be deleted without deleting the function.")
	case isAlias(r.qualifier):
		return nil, countersign.Errorf(countersign.Invalid, "Deletion of aliases is not currently supported.")
	}
	n, err := strconv.Atoi(r.qualifier)
	if err != nil {
		n = math.MaxInt // more digits than a version can have: one that is not there
	}
	return none(l.Functions.DeleteVersion(ctx, r.scope, r.name, n))
}

// The account's limits as AWS shows them to an ordinary account
// (lambda-core, section 2).
const (
	totalCodeSize    = 322122547200
	codeSizeUnzipped = 262144000
	codeSizeZipped   = 52428800
)

func (l *Lambda) getAccountSettings(_ context.Context, c *wire.Call, _ *lambda.GetAccountSettingsRequest) (*lambda.GetAccountSettingsResponse, error) {
	functions, bytes := l.Functions.Count(scope(c))
	return &lambda.GetAccountSettingsResponse{
		AccountLimit: &lambda.AccountLimit{
			TotalCodeSize:                  new(int64(totalCodeSize)),
			CodeSizeUnzipped:               new(int64(codeSizeUnzipped)),
			CodeSizeZipped:                 new(int64(codeSizeZipped)),
			ConcurrentExecutions:           new(int64(l.MaxConcurrency)),
			UnreservedConcurrentExecutions: new(int64(l.MaxConcurrency)),
		},
		AccountUsage: &lambda.AccountUsage{TotalCodeSize: &bytes, FunctionCount: new(int64(functions))},
	}, nil
}

// maxTags is Lambda's limit of tags on a resource.
const maxTags = 50

func checkTags(tags map[string]string) error {
	if len(tags) > maxTags {
		return countersign.Errorf(countersign.Invalid, "Number of tags exceeds resource tag limit.")
	}
	return nil
}

// tagged calls f with the tags of the function or code signing configuration
// that arn names; what f does to the map is stored.
func (l *Lambda) tagged(ctx context.Context, c *wire.Call, arn string, f func(map[string]string) error) error {
	if isConfig(arn) {
		if _, err := l.ownConfig(c, arn); err != nil {
			return err
		}
		return l.Functions.TagCodeSigning(ctx, arn, f)
	}
	r, err := taggedFunction(c, arn)
	if err != nil {
		return err
	}
	return l.Functions.SetTags(ctx, r.scope, r.name, f)
}

// isConfig reports whether arn is a code signing configuration's.
func isConfig(arn string) bool {
	a, err := countersign.ParseARN(arn)
	return err == nil && strings.HasPrefix(a.Resource, "code-signing-config:")
}

func taggedFunction(c *wire.Call, arn string) (ref, error) {
	// A function's name may be written in many ways, some of which look like
	// other resources' ARNs; a tag's resource is an ARN in full.
	if a, err := countersign.ParseARN(arn); err != nil || !strings.HasPrefix(a.Resource, "function:") || !functionName.MatchString(arn) {
		return ref{}, countersign.Errorf(countersign.NotFound, "The resource you requested does not exist.")
	}
	r, err := parseRef(c, arn, nil)
	if err != nil {
		return ref{}, err
	}
	if r.qualifier != "" {
		return ref{}, countersign.Errorf(countersign.Invalid, "Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return r, nil
}

func (l *Lambda) tagResource(ctx context.Context, c *wire.Call, in *lambda.TagResourceRequest) (*wire.None, error) {
	if len(in.Tags) == 0 {
		return nil, countersign.Errorf(countersign.Invalid, "An error occurred and the request cannot be processed.")
	}
	return none(l.tagged(ctx, c, *in.Resource, func(tags map[string]string) error {
		maps.Copy(tags, in.Tags)
		return checkTags(tags)
	}))
}

func (l *Lambda) untagResource(ctx context.Context, c *wire.Call, in *lambda.UntagResourceRequest) (*wire.None, error) {
	return none(l.tagged(ctx, c, *in.Resource, func(tags map[string]string) error {
		for _, k := range in.TagKeys {
			delete(tags, k)
		}
		return nil
	}))
}

func (l *Lambda) listTags(_ context.Context, c *wire.Call, in *lambda.ListTagsRequest) (*lambda.ListTagsResponse, error) {
	out := &lambda.ListTagsResponse{Tags: map[string]string{}}
	if isConfig(*in.Resource) {
		cs, err := l.ownConfig(c, *in.Resource)
		if err != nil {
			return nil, err
		}
		maps.Copy(out.Tags, cs.Tags)
		return out, nil
	}
	r, err := taggedFunction(c, *in.Resource)
	if err != nil {
		return nil, err
	}
	f, err := l.Functions.Get(r.scope, r.name)
	if err != nil {
		return nil, err
	}
	maps.Copy(out.Tags, f.Tags)
	return out, nil
}
