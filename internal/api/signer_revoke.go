package api

import (
	"context"

	"countersign/internal/sign"
	"countersign/internal/wire"
	"countersign/internal/wire/signer"
)

func (h signerHandlers) revokeSignature(ctx context.Context, c *wire.Call, in *signer.RevokeSignatureRequest) (*wire.None, error) {
	return nil, h.svc.RevokeSignature(ctx, signerScope(c), signerCaller(c), val(in.JobId), val(in.JobOwner), val(in.Reason))
}

func (h signerHandlers) revokeProfile(ctx context.Context, c *wire.Call, in *signer.RevokeSigningProfileRequest) (*wire.None, error) {
	return nil, h.svc.RevokeProfile(ctx, signerScope(c), signerCaller(c), val(in.ProfileName), val(in.ProfileVersion), val(in.Reason), val(in.EffectiveTime))
}

func (h signerHandlers) revocationStatus(ctx context.Context, _ *wire.Call, in *signer.GetRevocationStatusRequest) (*signer.GetRevocationStatusResponse, error) {
	revoked, err := h.svc.RevokedEntities(ctx, sign.RevocationQuery{
		Platform:       val(in.PlatformId),
		ProfileVersion: val(in.ProfileVersionArn),
		Job:            val(in.JobArn),
		SignedAt:       val(in.SignatureTimestamp),
		Certificates:   in.CertificateHashes,
	})
	if err != nil {
		return nil, err
	}
	return &signer.GetRevocationStatusResponse{RevokedEntities: revoked}, nil
}
