package api

import (
	"context"

	"countersign"
	"countersign/internal/release"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

const policyEnforce = "Enforce"

// listTop is the most AWS puts on one page of these lists.
const listTop = 50

func (l *Lambda) createCodeSigningConfig(ctx context.Context, c *wire.Call, in *lambda.CreateCodeSigningConfigRequest) (*lambda.CreateCodeSigningConfigResponse, error) {
	n := release.CodeSigning{Scope: scope(c), Description: in.Description, Publishers: in.AllowedPublishers.SigningProfileVersionArns, Tags: in.Tags}
	if p := in.CodeSigningPolicies; p != nil {
		n.Enforce = val(p.UntrustedArtifactOnDeployment) == policyEnforce
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	made, err := l.Functions.CreateCodeSigning(ctx, n)
	if err != nil {
		return nil, err
	}
	return &lambda.CreateCodeSigningConfigResponse{CodeSigningConfig: codeSigningConfig(made)}, nil
}

func (l *Lambda) getCodeSigningConfig(_ context.Context, c *wire.Call, in *lambda.GetCodeSigningConfigRequest) (*lambda.GetCodeSigningConfigResponse, error) {
	got, err := l.ownConfig(c, *in.CodeSigningConfigArn)
	if err != nil {
		return nil, err
	}
	return &lambda.GetCodeSigningConfigResponse{CodeSigningConfig: codeSigningConfig(got)}, nil
}

// ownConfig finds a configuration of the caller's account and region. For
// everybody else's it answers as for one that is not there.
func (l *Lambda) ownConfig(c *wire.Call, arn string) (release.CodeSigning, error) {
	got, err := l.Functions.CodeSigning(arn)
	if err == nil && got.Scope != scope(c) {
		err = countersign.Errorf(countersign.NotFound, "The Lambda code signing configuration %s can not be found.", arn)
	}
	if err != nil {
		return release.CodeSigning{}, withoutType(err)
	}
	return got, nil
}

// withoutType is for the one sentence AWS sends without the member Type.
func withoutType(err error) error {
	if countersign.KindOf(err) != countersign.NotFound {
		return err
	}
	return &wire.Fault{Code: "ResourceNotFoundException", Message: err.Error(), Members: map[string]any{"Type": nil}}
}

func (l *Lambda) updateCodeSigningConfig(ctx context.Context, c *wire.Call, in *lambda.UpdateCodeSigningConfigRequest) (*lambda.UpdateCodeSigningConfigResponse, error) {
	if _, err := l.ownConfig(c, *in.CodeSigningConfigArn); err != nil {
		return nil, err
	}
	got, err := l.Functions.UpdateCodeSigning(ctx, *in.CodeSigningConfigArn, func(cs *release.CodeSigning) {
		if in.AllowedPublishers != nil {
			cs.Publishers = in.AllowedPublishers.SigningProfileVersionArns
		}
		if p := in.CodeSigningPolicies; p != nil && p.UntrustedArtifactOnDeployment != nil {
			cs.Enforce = *p.UntrustedArtifactOnDeployment == policyEnforce
		}
		// After any update AWS shows a description, empty where there was none.
		cs.Description = new(val(cs.Description))
		if in.Description != nil {
			cs.Description = in.Description
		}
	})
	if err != nil {
		return nil, withoutType(err)
	}
	return &lambda.UpdateCodeSigningConfigResponse{CodeSigningConfig: codeSigningConfig(got)}, nil
}

func (l *Lambda) deleteCodeSigningConfig(ctx context.Context, c *wire.Call, in *lambda.DeleteCodeSigningConfigRequest) (*lambda.DeleteCodeSigningConfigResponse, error) {
	if _, err := l.ownConfig(c, *in.CodeSigningConfigArn); err != nil {
		return nil, err
	}
	if err := l.Functions.DeleteCodeSigning(ctx, *in.CodeSigningConfigArn); err != nil {
		return nil, withoutType(err)
	}
	return &lambda.DeleteCodeSigningConfigResponse{}, nil
}

func (l *Lambda) listCodeSigningConfigs(_ context.Context, c *wire.Call, in *lambda.ListCodeSigningConfigsRequest) (*lambda.ListCodeSigningConfigsResponse, error) {
	cs, more := l.Functions.CodeSignings(scope(c), val(in.Marker), page(in.MaxItems, listTop))
	out := &lambda.ListCodeSigningConfigsResponse{CodeSigningConfigs: []*lambda.CodeSigningConfig{}}
	for _, x := range cs {
		out.CodeSigningConfigs = append(out.CodeSigningConfigs, codeSigningConfig(x))
		out.NextMarker = marker(more, x.ID)
	}
	return out, nil
}

func (l *Lambda) listFunctionsByCodeSigningConfig(_ context.Context, c *wire.Call, in *lambda.ListFunctionsByCodeSigningConfigRequest) (*lambda.ListFunctionsByCodeSigningConfigResponse, error) {
	if _, err := l.ownConfig(c, *in.CodeSigningConfigArn); err != nil {
		return nil, err
	}
	names, more, err := l.Functions.Carriers(*in.CodeSigningConfigArn, val(in.Marker), page(in.MaxItems, listTop))
	if err != nil {
		return nil, withoutType(err)
	}
	out := &lambda.ListFunctionsByCodeSigningConfigResponse{FunctionArns: []string{}}
	for _, n := range names {
		out.FunctionArns = append(out.FunctionArns, scope(c).FunctionARN(n))
		out.NextMarker = marker(more, n)
	}
	return out, nil
}

// configTarget reads the function of a code signing operation: it has to be
// named without a qualifier.
func configTarget(c *wire.Call, name string) (ref, error) {
	r, err := parseRef(c, name, nil)
	if err != nil {
		return ref{}, err
	}
	return r, r.unqualified()
}

func (l *Lambda) putFunctionCodeSigningConfig(ctx context.Context, c *wire.Call, in *lambda.PutFunctionCodeSigningConfigRequest) (*lambda.PutFunctionCodeSigningConfigResponse, error) {
	r, err := configTarget(c, *in.FunctionName)
	if err != nil {
		return nil, err
	}
	// The configuration is looked for before the function.
	if err := l.Functions.Attach(ctx, r.scope, r.name, *in.CodeSigningConfigArn); err != nil {
		return nil, err
	}
	return &lambda.PutFunctionCodeSigningConfigResponse{CodeSigningConfigArn: in.CodeSigningConfigArn, FunctionName: &r.name}, nil
}

func (l *Lambda) getFunctionCodeSigningConfig(_ context.Context, c *wire.Call, in *lambda.GetFunctionCodeSigningConfigRequest) (*lambda.GetFunctionCodeSigningConfigResponse, error) {
	r, err := configTarget(c, *in.FunctionName)
	if err != nil {
		return nil, err
	}
	f, err := l.Functions.Get(r.scope, r.name)
	if err != nil {
		return nil, err
	}
	// With none attached the answer is an empty object, without the name.
	if f.Config == "" {
		return &lambda.GetFunctionCodeSigningConfigResponse{}, nil
	}
	return &lambda.GetFunctionCodeSigningConfigResponse{CodeSigningConfigArn: &f.Config, FunctionName: &r.name}, nil
}

func (l *Lambda) deleteFunctionCodeSigningConfig(ctx context.Context, c *wire.Call, in *lambda.DeleteFunctionCodeSigningConfigRequest) (*wire.None, error) {
	r, err := configTarget(c, *in.FunctionName)
	if err != nil {
		return nil, err
	}
	return none(l.Functions.Attach(ctx, r.scope, r.name, ""))
}
