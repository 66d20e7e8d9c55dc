package api

import (
	"context"
	"errors"
	"time"

	"countersign"
	"countersign/internal/sign"
	"countersign/internal/wire"
	"countersign/internal/wire/signer"
)

// signerFaults are Signer's names for our kinds of no. Signer has one name for
// whatever is wrong with a request or its moment.
var signerFaults = faults{
	countersign.Invalid:    {Code: "ValidationException", Status: 400},
	countersign.Exists:     {Code: "ValidationException", Status: 400},
	countersign.Conflict:   {Code: "ValidationException", Status: 400},
	countersign.NotAllowed: {Code: "ValidationException", Status: 400},
	countersign.TooLarge:   {Code: "ValidationException", Status: 400},
	countersign.Refused:    {Code: "ValidationException", Status: 400},
	countersign.NotFound:   {Code: "ResourceNotFoundException", Status: 404},
	countersign.Stale:      {Code: "ConflictException", Status: 409},
	countersign.Denied:     {Code: "AccessDeniedException", Status: 403},
	countersign.Throttled:  {Code: "TooManyRequestsException", Status: 429},
}

// signerTagFaults are the names the three tagging operations use instead.
var signerTagFaults = faults{
	countersign.Invalid:    {Code: "BadRequestException", Status: 400},
	countersign.Conflict:   {Code: "BadRequestException", Status: 400},
	countersign.NotAllowed: {Code: "BadRequestException", Status: 400},
	countersign.NotFound:   {Code: "NotFoundException", Status: 404},
	countersign.Denied:     {Code: "AccessDeniedException", Status: 403},
	countersign.Throttled:  {Code: "TooManyRequestsException", Status: 429},
}

// registerSigner makes svc answer for AWS Signer on s.
func registerSigner(s *wire.Server, svc *sign.Service) {
	h := signerHandlers{svc}
	wire.Handle(s, signer.Service, "PutSigningProfile", h.putProfile)
	wire.Handle(s, signer.Service, "GetSigningProfile", h.getProfile)
	wire.Handle(s, signer.Service, "ListSigningProfiles", h.listProfiles)
	wire.Handle(s, signer.Service, "CancelSigningProfile", h.cancelProfile)
	wire.Handle(s, signer.Service, "GetSigningPlatform", h.getPlatform)
	wire.Handle(s, signer.Service, "ListSigningPlatforms", h.listPlatforms)
	wire.Handle(s, signer.Service, "StartSigningJob", h.startJob)
	wire.Handle(s, signer.Service, "DescribeSigningJob", h.describeJob)
	wire.Handle(s, signer.Service, "ListSigningJobs", h.listJobs)
	wire.Handle(s, signer.Service, "RevokeSignature", h.revokeSignature)
	wire.Handle(s, signer.Service, "RevokeSigningProfile", h.revokeProfile)
	wire.Handle(s, signer.Service, "GetRevocationStatus", h.revocationStatus)
	wire.Handle(s, signer.Service, "AddProfilePermission", h.addPermission)
	wire.Handle(s, signer.Service, "RemoveProfilePermission", h.removePermission)
	wire.Handle(s, signer.Service, "ListProfilePermissions", h.listPermissions)
	wire.Handle(s, signer.Service, "TagResource", h.tag)
	wire.Handle(s, signer.Service, "UntagResource", h.untag)
	wire.Handle(s, signer.Service, "ListTagsForResource", h.listTags)
}

type signerHandlers struct{ svc *sign.Service }

func signerScope(c *wire.Call) sign.Scope { return sign.Scope{Account: c.Account, Region: c.Region} }

func signerCaller(c *wire.Call) sign.Caller {
	return sign.Caller{Account: c.Caller.Account, ARN: c.Caller.ARN}
}

// shown is a pointer to v, and nil for a zero v: absent on the wire.
func shown[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// shownTime is a time on the wire, absent when it never came.
func shownTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// tagsOf shows no tags as an empty map: Signer always has the member.
func tagsOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func signerPage(n *int64, token *string) sign.PageRequest {
	return sign.PageRequest{Max: int(val(n)), Token: val(token)}
}

func (h signerHandlers) putProfile(ctx context.Context, c *wire.Call, in *signer.PutSigningProfileRequest) (*signer.PutSigningProfileResponse, error) {
	n := sign.NewProfile{
		Name:     val(in.ProfileName),
		Platform: val(in.PlatformId),
		Params:   in.SigningParameters,
		Tags:     in.Tags,
	}
	if v := in.SignatureValidityPeriod; v != nil {
		n.Validity = &sign.Validity{Unit: val(v.Type), Value: val(v.Value)}
	}
	if m := in.SigningMaterial; m != nil {
		n.Material = val(m.CertificateArn)
	}
	if o := in.Overrides; o != nil {
		n.Overrides.Format = val(o.SigningImageFormat)
		if g := o.SigningConfiguration; g != nil {
			n.Overrides.Encryption, n.Overrides.Hash = val(g.EncryptionAlgorithm), val(g.HashAlgorithm)
		}
	}
	p, err := h.svc.PutProfile(ctx, signerScope(c), n)
	if err != nil {
		return nil, err
	}
	return &signer.PutSigningProfileResponse{Arn: new(p.ARN()), ProfileVersion: &p.Version, ProfileVersionArn: new(p.VersionARN())}, nil
}

func (h signerHandlers) getProfile(ctx context.Context, c *wire.Call, in *signer.GetSigningProfileRequest) (*signer.GetSigningProfileResponse, error) {
	p, err := h.svc.ProfileOf(ctx, signerScope(c), signerCaller(c), val(in.ProfileName), val(in.ProfileOwner))
	if err != nil {
		return nil, err
	}
	out := &signer.GetSigningProfileResponse{
		ProfileName:             &p.Name,
		ProfileVersion:          &p.Version,
		ProfileVersionArn:       new(p.VersionARN()),
		PlatformId:              &p.Platform,
		PlatformDisplayName:     signerDisplayName(p.Platform),
		SignatureValidityPeriod: signerValidity(p),
		Overrides:               signerOverrides(p.Overrides),
		SigningParameters:       p.Params,
		Status:                  new(string(p.Status)),
		StatusReason:            shown(p.Reason),
		Arn:                     new(p.ARN()),
		Tags:                    tagsOf(p.Tags),
	}
	if r := p.Revocation; r != nil {
		out.RevocationRecord = &signer.SigningProfileRevocationRecord{RevocationEffectiveFrom: &r.From, RevokedAt: &r.At, RevokedBy: &r.By}
	}
	return out, nil
}

func signerDisplayName(platform string) *string {
	pf, err := sign.PlatformByID(platform)
	if err != nil {
		return nil
	}
	return &pf.DisplayName
}

func signerValidity(p sign.Profile) *signer.SignatureValidityPeriod {
	return &signer.SignatureValidityPeriod{Type: &p.Validity.Unit, Value: &p.Validity.Value}
}

func signerOverrides(o sign.Overrides) *signer.SigningPlatformOverrides {
	if o == (sign.Overrides{}) {
		return nil
	}
	out := &signer.SigningPlatformOverrides{SigningImageFormat: shown(o.Format)}
	if o.Encryption != "" || o.Hash != "" {
		out.SigningConfiguration = &signer.SigningConfigurationOverrides{EncryptionAlgorithm: shown(o.Encryption), HashAlgorithm: shown(o.Hash)}
	}
	return out
}

func (h signerHandlers) listProfiles(_ context.Context, c *wire.Call, in *signer.ListSigningProfilesRequest) (*signer.ListSigningProfilesResponse, error) {
	f := sign.ProfileFilter{IncludeCanceled: val(in.IncludeCanceled), Platform: val(in.PlatformId)}
	for _, s := range in.Statuses {
		f.Statuses = append(f.Statuses, sign.ProfileStatus(s))
	}
	ps, next, err := h.svc.Profiles(signerScope(c), f, signerPage(in.MaxResults, in.NextToken))
	if err != nil {
		return nil, err
	}
	out := &signer.ListSigningProfilesResponse{Profiles: []*signer.SigningProfile{}, NextToken: shown(next)}
	for _, p := range ps {
		out.Profiles = append(out.Profiles, &signer.SigningProfile{
			ProfileName:             &p.Name,
			ProfileVersion:          &p.Version,
			ProfileVersionArn:       new(p.VersionARN()),
			SigningMaterial:         &signer.SigningMaterial{}, // as AWS shows it where AWS holds the key
			SignatureValidityPeriod: signerValidity(p),
			PlatformId:              &p.Platform,
			PlatformDisplayName:     signerDisplayName(p.Platform),
			SigningParameters:       p.Params,
			Status:                  new(string(p.Status)),
			Arn:                     new(p.ARN()),
			Tags:                    tagsOf(p.Tags),
		})
	}
	return out, nil
}

func (h signerHandlers) cancelProfile(ctx context.Context, c *wire.Call, in *signer.CancelSigningProfileRequest) (*wire.None, error) {
	return nil, h.svc.CancelProfile(ctx, signerScope(c), val(in.ProfileName))
}

func (h signerHandlers) getPlatform(_ context.Context, _ *wire.Call, in *signer.GetSigningPlatformRequest) (*signer.GetSigningPlatformResponse, error) {
	pf, err := sign.PlatformByID(val(in.PlatformId))
	if err != nil {
		return nil, err
	}
	p := signerPlatform(pf)
	return new(signer.GetSigningPlatformResponse(*p)), nil
}

func (h signerHandlers) listPlatforms(_ context.Context, _ *wire.Call, in *signer.ListSigningPlatformsRequest) (*signer.ListSigningPlatformsResponse, error) {
	f := sign.PlatformFilter{Category: val(in.Category), Partner: val(in.Partner), Target: val(in.Target)}
	ps, next, err := sign.Platforms(f, signerPage(in.MaxResults, in.NextToken))
	if err != nil {
		return nil, err
	}
	out := &signer.ListSigningPlatformsResponse{Platforms: []*signer.SigningPlatform{}, NextToken: shown(next)}
	for _, p := range ps {
		out.Platforms = append(out.Platforms, signerPlatform(p))
	}
	return out, nil
}

func signerPlatform(p sign.Platform) *signer.SigningPlatform {
	out := &signer.SigningPlatform{
		PlatformId:          &p.ID,
		DisplayName:         &p.DisplayName,
		Partner:             shown(p.Partner),
		Target:              shown(p.Target),
		Category:            shown(p.Category),
		MaxSizeInMB:         shown(p.MaxSizeMB),
		RevocationSupported: &p.Revocable,
	}
	if p.Encryption.Default != "" {
		out.SigningConfiguration = &signer.SigningConfiguration{
			EncryptionAlgorithmOptions: &signer.EncryptionAlgorithmOptions{AllowedValues: p.Encryption.Allowed, DefaultValue: &p.Encryption.Default},
			HashAlgorithmOptions:       &signer.HashAlgorithmOptions{AllowedValues: p.Hash.Allowed, DefaultValue: &p.Hash.Default},
		}
		out.SigningImageFormat = &signer.SigningImageFormat{SupportedFormats: p.Formats.Allowed, DefaultFormat: &p.Formats.Default}
	}
	return out
}

func (h signerHandlers) startJob(ctx context.Context, c *wire.Call, in *signer.StartSigningJobRequest) (*signer.StartSigningJobResponse, error) {
	r := sign.JobRequest{Profile: val(in.ProfileName), Owner: val(in.ProfileOwner), Token: val(in.ClientRequestToken)}
	if in.Source != nil && in.Source.S3 != nil {
		s := in.Source.S3
		r.Source = sign.Source{Bucket: val(s.BucketName), Key: val(s.Key), Version: val(s.Version)}
	}
	if in.Destination != nil && in.Destination.S3 != nil {
		r.Bucket, r.Prefix = val(in.Destination.S3.BucketName), val(in.Destination.S3.Prefix)
	}
	j, err := h.svc.StartJob(ctx, signerScope(c), signerCaller(c), r)
	if err != nil {
		if no, ok := errors.AsType[*countersign.Error](err); ok && no.Kind == countersign.Invalid {
			// The one detailed code that is known of the real service.
			f := signerFaults[no.Kind]
			f.Message, f.Cause, f.Members = no.Message, no.Err, map[string]any{"code": "InvalidJobParameters"}
			return nil, &f
		}
		return nil, err
	}
	return &signer.StartSigningJobResponse{JobId: &j.ID, JobOwner: &j.Account}, nil
}

func (h signerHandlers) describeJob(ctx context.Context, c *wire.Call, in *signer.DescribeSigningJobRequest) (*signer.DescribeSigningJobResponse, error) {
	j, err := h.svc.Job(ctx, signerScope(c), val(in.JobId))
	if err != nil {
		return nil, err
	}
	item := h.job(ctx, j)
	out := &signer.DescribeSigningJobResponse{
		JobId:               item.JobId,
		Source:              item.Source,
		PlatformId:          item.PlatformId,
		PlatformDisplayName: item.PlatformDisplayName,
		ProfileName:         item.ProfileName,
		ProfileVersion:      item.ProfileVersion,
		CreatedAt:           item.CreatedAt,
		CompletedAt:         shownTime(j.Completed),
		SignatureExpiresAt:  item.SignatureExpiresAt,
		RequestedBy:         &j.Invoker.ARN,
		Status:              item.Status,
		StatusReason:        shown(j.Reason),
		SignedObject:        item.SignedObject,
		JobOwner:            item.JobOwner,
		JobInvoker:          item.JobInvoker,
	}
	if p, err := h.svc.Profile(ctx, j.Scope(), j.Profile); err == nil {
		out.Overrides, out.SigningParameters = signerOverrides(p.Overrides), p.Params
	}
	if r := j.Revocation; r != nil {
		out.RevocationRecord = &signer.SigningJobRevocationRecord{Reason: &r.Reason, RevokedAt: &r.At, RevokedBy: &r.By}
	}
	return out, nil
}

func (h signerHandlers) listJobs(ctx context.Context, c *wire.Call, in *signer.ListSigningJobsRequest) (*signer.ListSigningJobsResponse, error) {
	js, next, err := h.svc.Jobs(signerScope(c), sign.JobFilter{
		Status:        sign.JobStatus(val(in.Status)),
		Platform:      val(in.PlatformId),
		RequestedBy:   val(in.RequestedBy),
		Invoker:       val(in.JobInvoker),
		Revoked:       in.IsRevoked,
		ExpiresBefore: val(in.SignatureExpiresBefore),
		ExpiresAfter:  val(in.SignatureExpiresAfter),
	}, signerPage(in.MaxResults, in.NextToken))
	if err != nil {
		return nil, err
	}
	out := &signer.ListSigningJobsResponse{Jobs: []*signer.SigningJob{}, NextToken: shown(next)}
	for _, j := range js {
		out.Jobs = append(out.Jobs, h.job(ctx, j))
	}
	return out, nil
}

// job is what a list shows of a job. Where it was signed to and how long that
// lasts appear when it has happened.
func (h signerHandlers) job(ctx context.Context, j sign.Job) *signer.SigningJob {
	out := &signer.SigningJob{
		JobId:          &j.ID,
		CreatedAt:      &j.Created,
		Status:         new(string(j.Status)),
		IsRevoked:      new(j.Revocation != nil),
		ProfileName:    &j.Profile,
		ProfileVersion: &j.Version,
		JobOwner:       &j.Account,
		JobInvoker:     &j.Invoker.Account,
	}
	if j.Source.Bucket != "" {
		out.Source = &signer.Source{S3: &signer.S3Source{BucketName: &j.Source.Bucket, Key: &j.Source.Key, Version: &j.Source.Version}}
	}
	if j.Status == sign.Succeeded {
		out.SignatureExpiresAt = shownTime(j.Expires)
		if j.Target.Bucket != "" {
			out.SignedObject = &signer.SignedObject{S3: &signer.S3SignedObject{BucketName: &j.Target.Bucket, Key: &j.Target.Key}}
		}
	}
	if p, err := h.svc.Profile(ctx, j.Scope(), j.Profile); err == nil {
		out.PlatformId, out.PlatformDisplayName = &p.Platform, signerDisplayName(p.Platform)
	}
	return out
}

func (h signerHandlers) tag(ctx context.Context, c *wire.Call, in *signer.TagResourceRequest) (*signer.TagResourceResponse, error) {
	return nil, h.svc.Tag(ctx, signerScope(c), val(in.ResourceArn), in.Tags)
}

func (h signerHandlers) untag(ctx context.Context, c *wire.Call, in *signer.UntagResourceRequest) (*signer.UntagResourceResponse, error) {
	return nil, h.svc.Untag(ctx, signerScope(c), val(in.ResourceArn), in.TagKeys)
}

func (h signerHandlers) listTags(ctx context.Context, c *wire.Call, in *signer.ListTagsForResourceRequest) (*signer.ListTagsForResourceResponse, error) {
	tags, err := h.svc.Tags(ctx, signerScope(c), val(in.ResourceArn))
	if err != nil {
		return nil, err
	}
	return &signer.ListTagsForResourceResponse{Tags: tagsOf(tags)}, nil
}
