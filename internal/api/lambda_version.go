package api

import (
	"context"
	"strconv"

	"countersign/internal/release"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

func (l *Lambda) publishVersion(ctx context.Context, c *wire.Call, in *lambda.PublishVersionRequest) (*lambda.FunctionConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	p := release.Publication{CodeSHA256: val(in.CodeSha256), Revision: val(in.RevisionId)}
	if val(in.Description) != "" {
		p.Description = in.Description
	}
	v, err := l.Functions.Publish(ctx, r.scope, r.name, p)
	if err != nil {
		return nil, err
	}
	return configuration(v, versionARN(v), full), nil
}

func (l *Lambda) listVersionsByFunction(_ context.Context, c *wire.Call, in *lambda.ListVersionsByFunctionRequest) (*lambda.ListVersionsByFunctionResponse, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	limit := page(in.MaxItems, listTop)
	out := &lambda.ListVersionsByFunctionResponse{}
	after := 0
	if in.Marker != nil {
		after, _ = strconv.Atoi(*in.Marker) // a marker of nobody's starts over
	} else {
		// $LATEST comes first.
		f, err := l.Functions.Get(r.scope, r.name)
		if err != nil {
			return nil, err
		}
		out.Versions = append(out.Versions, configuration(f.Latest, r.scope.FunctionARN(r.name)+":"+release.Latest, listed))
		limit--
	}
	vs, more, err := l.Functions.Versions(r.scope, r.name, after, limit)
	if err != nil {
		return nil, err
	}
	for _, v := range vs {
		out.Versions = append(out.Versions, configuration(v, versionARN(v), listed))
		after = v.Number
	}
	out.NextMarker = marker(more, strconv.Itoa(after))
	return out, nil
}
