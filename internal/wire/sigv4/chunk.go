package sigv4

import (
	"encoding/hex"
)

// Words that stand where the body's hash would when the body is aws-chunked.
const (
	StreamingPayload         = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	StreamingPayloadTrailer  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	StreamingUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

// Chunks is the chain of signatures over an aws-chunked body. Each chunk's
// signature covers the one before it, and the first covers the request's, so
// that chunks cannot be dropped, repeated or moved. It is not safe for
// concurrent use.
type Chunks struct {
	key         []byte
	date, scope string
	prev        string
}

// NewChunks begins the chain of the request c verified, with the signing key
// of c's scope. The seed is the request's own signature.
func NewChunks(key []byte, c *Claim) *Chunks {
	return &Chunks{key: key, date: c.date, scope: c.Scope.String(), prev: c.signature}
}

// Chunk reports whether signature is that of the next chunk, whose data has
// the given SHA-256. The chain moves on only if it is; the last chunk is the
// empty one.
func (c *Chunks) Chunk(sum [32]byte, signature string) bool {
	return c.next("AWS4-HMAC-SHA256-PAYLOAD\n"+c.date+"\n"+c.scope+"\n"+c.prev+"\n"+EmptySHA256+"\n"+hex.EncodeToString(sum[:]), signature)
}

// Trailer reports whether signature is that of the trailers after the last
// chunk. sum is the SHA-256 of their lines, each "name:value\n" with the name
// in lower case.
func (c *Chunks) Trailer(sum [32]byte, signature string) bool {
	return c.next("AWS4-HMAC-SHA256-TRAILER\n"+c.date+"\n"+c.scope+"\n"+c.prev+"\n"+hex.EncodeToString(sum[:]), signature)
}

func (c *Chunks) next(toSign, signature string) bool {
	if !same(signature, mac(c.key, toSign)) {
		return false
	}
	c.prev = signature
	return true
}
