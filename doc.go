// Package countersign is the evidence of Countersign: what a signed function
// archive is, what its signature says, and how anyone checks it.
//
// It needs nothing but the standard library and a trust file: no server, no
// network. It trusts no byte of an archive until [OpenArchive] has found that
// the file has exactly one reading, and no signature until [Verify] has
// followed its chain to a root the caller pinned.
//
// The signed zip is AWS Signer's format (a CMS SignedData under
// META_INF/aws_signer_signature_v1.0.SF); our own signatures carry one more
// signed attribute, a strict digest, which foreign verifiers ignore.
package countersign
