package api

import (
	"context"

	"countersign/internal/wire"
	"countersign/internal/wire/sts"
)

// registerSTS gives s the operations of STS that need nothing but the caller.
func registerSTS(s *wire.Server) {
	wire.Handle(s, sts.Service, "GetCallerIdentity", getCallerIdentity)
}

// getCallerIdentity says who signed. AWS allows it to everybody whose
// signature is right, whatever policies say.
func getCallerIdentity(_ context.Context, c *wire.Call, _ *sts.GetCallerIdentityRequest) (*sts.GetCallerIdentityResponse, error) {
	return &sts.GetCallerIdentityResponse{
		Arn:     new(c.Caller.ARN),
		UserId:  new(c.Caller.UserID),
		Account: new(c.Caller.Account),
	}, nil
}
