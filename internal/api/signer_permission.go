package api

import (
	"context"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/wire"
	"countersign/internal/wire/signer"
)

// signerPermissionFaults are the names of the operations that change
// permissions, which tell conflicts and limits from bad requests.
var signerPermissionFaults = faults{
	countersign.Invalid:    {Code: "ValidationException", Status: 400},
	countersign.NotAllowed: {Code: "ValidationException", Status: 400},
	countersign.NotFound:   {Code: "ResourceNotFoundException", Status: 404},
	countersign.Exists:     {Code: "ConflictException", Status: 409},
	countersign.Stale:      {Code: "ConflictException", Status: 409},
	countersign.TooLarge:   {Code: "ServiceLimitExceededException", Status: 402},
	countersign.Denied:     {Code: "AccessDeniedException", Status: 403},
	countersign.Throttled:  {Code: "TooManyRequestsException", Status: 429},
}

func (h signerHandlers) addPermission(ctx context.Context, c *wire.Call, in *signer.AddProfilePermissionRequest) (*signer.AddProfilePermissionResponse, error) {
	revision, err := h.svc.AddPermission(ctx, signerScope(c), val(in.ProfileName), sign.Permission{
		Statement: val(in.StatementId),
		Action:    val(in.Action),
		Principal: val(in.Principal),
		Version:   val(in.ProfileVersion),
	}, in.RevisionId)
	if err != nil {
		return nil, err
	}
	return &signer.AddProfilePermissionResponse{RevisionId: &revision}, nil
}

func (h signerHandlers) removePermission(ctx context.Context, c *wire.Call, in *signer.RemoveProfilePermissionRequest) (*signer.RemoveProfilePermissionResponse, error) {
	revision, err := h.svc.RemovePermission(ctx, signerScope(c), val(in.ProfileName), val(in.StatementId), val(in.RevisionId))
	if err != nil {
		return nil, err
	}
	return &signer.RemoveProfilePermissionResponse{RevisionId: &revision}, nil
}

func (h signerHandlers) listPermissions(ctx context.Context, c *wire.Call, in *signer.ListProfilePermissionsRequest) (*signer.ListProfilePermissionsResponse, error) {
	ps, size, next, err := h.svc.Permissions(ctx, signerScope(c), val(in.ProfileName), signerPage(nil, in.NextToken))
	if err != nil {
		return nil, err
	}
	out := &signer.ListProfilePermissionsResponse{
		RevisionId:      &ps.Revision,
		PolicySizeBytes: new(int64(size)),
		Permissions:     []*signer.Permission{},
		NextToken:       shown(next),
	}
	for _, g := range ps.Granted {
		out.Permissions = append(out.Permissions, &signer.Permission{Action: &g.Action, Principal: &g.Principal, StatementId: &g.Statement, ProfileVersion: shown(g.Version)})
	}
	return out, nil
}
