package api

import (
	"crypto/sha256"
	"encoding/hex"

	"countersign/internal/release"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

// A view says how much of a version an operation shows.
type view int

const (
	// full is everything: Get, Create, Update, Publish.
	full view = iota
	// listed leaves out what lists leave out: state, update and runtime
	// version (lambda-core, section 2).
	listed
)

// configuration shows a version as AWS does; arn is the one asked for.
func configuration(v release.Version, arn string, as view) *lambda.FunctionConfiguration {
	s := v.Settings
	out := &lambda.FunctionConfiguration{
		FunctionName:     new(v.Name),
		FunctionArn:      new(arn),
		Runtime:          &s.Runtime,
		Role:             &s.Role,
		Handler:          &s.Handler,
		CodeSize:         new(v.Code.Size),
		Description:      &s.Description,
		Timeout:          new(int64(s.Timeout)),
		MemorySize:       new(int64(s.Memory)),
		LastModified:     new(lastModified(v.Modified)),
		CodeSha256:       new(v.Code.Artifact.Base64()),
		Version:          new(v.Qualifier()),
		TracingConfig:    &lambda.TracingConfigResponse{Mode: &s.Tracing},
		RevisionId:       new(v.Revision),
		PackageType:      new("Zip"),
		Architectures:    []string{s.Architecture},
		EphemeralStorage: &lambda.EphemeralStorage{Size: new(int64(s.Ephemeral))},
		SnapStart:        &lambda.SnapStartResponse{ApplyOn: new("None"), OptimizationStatus: new("Off")},
		LoggingConfig:    &lambda.LoggingConfig{LogFormat: &s.LogFormat, LogGroup: &s.LogGroup},
	}
	if s.Runtime == "" {
		out.Runtime = nil
	}
	if s.Handler == "" {
		out.Handler = nil
	}
	if s.Environment != nil {
		out.Environment = &lambda.EnvironmentResponse{Variables: s.Environment}
	}
	if sig := v.Code.Admission.Signature; sig != nil {
		out.SigningProfileVersionArn, out.SigningJobArn = &sig.ProfileVersion, &sig.Job
	}
	if as == listed {
		return out
	}
	out.RuntimeVersionConfig = &lambda.RuntimeVersionConfig{RuntimeVersionArn: new(runtimeVersionARN(v.Scope.Region, s.Runtime))}
	out.State = new(string(v.State))
	switch v.State {
	case release.Pending:
		out.StateReason, out.StateReasonCode = new("The function is being created."), new("Creating")
	case release.Failed:
		out.StateReason, out.StateReasonCode = new(v.Fault), new("InvalidConfiguration")
	}
	switch v.Update {
	case "":
		return out
	case release.InProgress:
		// AWS's own words for an update, and not a slip of ours.
		out.LastUpdateStatusReason, out.LastUpdateStatusReasonCode = new("The function is being created."), new("Creating")
	case release.Failed:
		out.LastUpdateStatusReason, out.LastUpdateStatusReasonCode = new(v.Fault), new("InvalidConfiguration")
	}
	out.LastUpdateStatus = new(string(v.Update))
	return out
}

// runtimeVersionARN names the runtime's build. Ours has no builds of its own:
// the name is made from the identifier, so that it is stable.
func runtimeVersionARN(region, id string) string {
	h := sha256.Sum256([]byte("countersign runtime " + id))
	return "arn:aws:lambda:" + region + "::runtime:" + hex.EncodeToString(h[:])
}

// versionARN is a version's own ARN: qualified, but for $LATEST.
func versionARN(v release.Version) string {
	if v.Number == 0 {
		return v.ARN()
	}
	return v.ARN() + ":" + v.Qualifier()
}

func aliasConfiguration(a release.Alias) *lambda.AliasConfiguration {
	out := &lambda.AliasConfiguration{
		AliasArn:        new(a.ARN()),
		Name:            new(a.Name),
		FunctionVersion: new(a.VersionName()),
		Description:     new(a.Description),
		RevisionId:      new(a.Revision),
	}
	if len(a.Weights) > 0 {
		w := make(map[string]float64, len(a.Weights))
		for v, share := range a.Weights {
			w[release.Version{Number: v}.Qualifier()] = share
		}
		out.RoutingConfig = &lambda.AliasRoutingConfiguration{AdditionalVersionWeights: w}
	}
	return out
}

func codeSigningConfig(c release.CodeSigning) *lambda.CodeSigningConfig {
	policy := "Warn"
	if c.Enforce {
		policy = "Enforce"
	}
	return &lambda.CodeSigningConfig{
		CodeSigningConfigId:  new(c.ID),
		CodeSigningConfigArn: new(c.ARN()),
		Description:          c.Description,
		AllowedPublishers:    &lambda.AllowedPublishers{SigningProfileVersionArns: c.Publishers},
		CodeSigningPolicies:  &lambda.CodeSigningPolicies{UntrustedArtifactOnDeployment: &policy},
		LastModified:         new(c.Modified.UTC().Format("2006-01-02T15:04:05.000000000Z")),
	}
}

// none is the answer of operations that answer nothing.
func none(err error) (*wire.None, error) {
	if err != nil {
		return nil, err
	}
	return &wire.None{}, nil
}
