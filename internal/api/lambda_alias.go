package api

import (
	"context"
	"strconv"

	"countersign/internal/release"
	"countersign/internal/wire"
	"countersign/internal/wire/lambda"
)

// versionNumber reads "$LATEST" as 0. The constraint has refused what is
// neither that nor digits; a number too large for a version names none.
func versionNumber(r ref, s string) (int, error) {
	if s == release.Latest {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, release.NotFound(r.scope, r.name, s)
	}
	return n, nil
}

func weights(r ref, c *lambda.AliasRoutingConfiguration) (map[int]float64, error) {
	if c == nil || len(c.AdditionalVersionWeights) == 0 {
		return nil, nil
	}
	w := make(map[int]float64, len(c.AdditionalVersionWeights))
	for s, share := range c.AdditionalVersionWeights {
		n, err := versionNumber(r, s)
		if err != nil {
			return nil, err
		}
		w[n] = share
	}
	return w, nil
}

func (l *Lambda) createAlias(ctx context.Context, c *wire.Call, in *lambda.CreateAliasRequest) (*lambda.AliasConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if _, err := l.Functions.Get(r.scope, r.name); err != nil {
		return nil, err
	}
	n := release.Alias{Scope: r.scope, Function: r.name, Name: *in.Name, Description: val(in.Description)}
	if n.Version, err = versionNumber(r, *in.FunctionVersion); err != nil {
		return nil, err
	}
	if n.Weights, err = weights(r, in.RoutingConfig); err != nil {
		return nil, err
	}
	a, err := l.Functions.CreateAlias(ctx, n)
	if err != nil {
		return nil, err
	}
	return aliasConfiguration(a), nil
}

func (l *Lambda) getAlias(_ context.Context, c *wire.Call, in *lambda.GetAliasRequest) (*lambda.AliasConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	a, err := l.Functions.Alias(r.scope, r.name, *in.Name)
	if err != nil {
		return nil, err
	}
	return aliasConfiguration(a), nil
}

func (l *Lambda) updateAlias(ctx context.Context, c *wire.Call, in *lambda.UpdateAliasRequest) (*lambda.AliasConfiguration, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	version := -1
	if in.FunctionVersion != nil {
		if version, err = versionNumber(r, *in.FunctionVersion); err != nil {
			return nil, err
		}
	}
	w, err := weights(r, in.RoutingConfig)
	if err != nil {
		return nil, err
	}
	a, err := l.Functions.UpdateAlias(ctx, r.scope, r.name, *in.Name, val(in.RevisionId), func(a *release.Alias) {
		if version >= 0 {
			a.Version = version
		}
		if in.Description != nil {
			a.Description = *in.Description
		}
		// An empty RoutingConfig takes the weights away; none leaves them.
		if in.RoutingConfig != nil {
			a.Weights = w
		}
	})
	if err != nil {
		return nil, err
	}
	return aliasConfiguration(a), nil
}

func (l *Lambda) deleteAlias(ctx context.Context, c *wire.Call, in *lambda.DeleteAliasRequest) (*wire.None, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	return none(l.Functions.DeleteAlias(ctx, r.scope, r.name, *in.Name))
}

func (l *Lambda) listAliases(_ context.Context, c *wire.Call, in *lambda.ListAliasesRequest) (*lambda.ListAliasesResponse, error) {
	r, err := parseRef(c, *in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	version := -1
	if in.FunctionVersion != nil {
		if version, err = versionNumber(r, *in.FunctionVersion); err != nil {
			return nil, err
		}
	}
	as, more, err := l.Functions.Aliases(r.scope, r.name, val(in.Marker), page(in.MaxItems, listTop), version)
	if err != nil {
		return nil, err
	}
	out := &lambda.ListAliasesResponse{Aliases: []*lambda.AliasConfiguration{}}
	for _, a := range as {
		out.Aliases = append(out.Aliases, aliasConfiguration(a))
		out.NextMarker = marker(more, a.Name)
	}
	return out, nil
}
