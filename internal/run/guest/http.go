package guest

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"

	"countersign/internal/run/frame"
)

// maxHead bounds a request's line and headers. aws-lambda-go puts up to 1 MiB
// of X-Ray cause into one header.
const maxHead = 2 << 20

var errRequest = errors.New("not a request the Runtime API understands")

// A request is one HTTP/1.1 request of the runtime.
type request struct {
	method, path string
	errorType    string // Lambda-Runtime-Function-Error-Type, header or trailer
	errorBody    string // Lambda-Runtime-Function-Error-Body, base64, a trailer
	body         []byte // valid until the connection reads again
	tooLarge     bool   // the body was over frame.MaxPayload and is not kept
	close        bool   // the client wants the connection closed
}

// A conn is one connection of the runtime. It takes requests one at a time:
// what a client pipelines waits.
type conn struct {
	l     *loop
	fd    int
	in    []byte // received; in[:used] belongs to the request being read
	out   []byte // to be sent
	later []byte // an answer that goes with the next one
	hang  bool   // close when out is sent
	full  bool   // the socket took no more; EPOLLOUT is watched

	// Of the request being read.
	req     request
	state   int
	used    int
	length  int64  // of the body, or left of the chunk
	body    []byte // of a chunked request, joined
	waiting bool   // a request was read and is not answered yet
}

// What a conn reads next.
const (
	readHead = iota
	readBody
	readSkip // a body that is over the limit
	readChunkSize
	readChunk
	readChunkEnd
	readTrailer
)

// listen opens the Runtime API's socket and returns its port.
func (l *loop) listen(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	if err := syscall.Listen(fd, 16); err != nil {
		return 0, os.NewSyscallError("listen", err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	l.listener = fd
	return sa.(*syscall.SockaddrInet4).Port, l.watch(fd, syscall.EPOLLIN)
}

// maxConns bounds what a runtime can hold open; the oldest API clients use
// one, the Go one two.
const maxConns = 64

func (l *loop) accept() error {
	fd, _, err := syscall.Accept4(l.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	if err != nil {
		return nil // gone again, or out of descriptors: the runtime's problem
	}
	if len(l.conns) >= maxConns {
		syscall.Close(fd)
		return nil
	}
	// Answers are small and whole; do not wait to join them.
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	l.conns[fd] = &conn{l: l, fd: fd}
	return l.watch(fd, syscall.EPOLLIN)
}

// event handles readiness of the connection. Whatever is wrong with one
// closes that one.
func (c *conn) event(events uint32) {
	if events&syscall.EPOLLOUT != 0 {
		c.write()
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR) != 0 && c.fd >= 0 {
		c.read()
	}
}

func (c *conn) read() {
	c.in = room(c.in, 4<<10)
	n, err := read(c.fd, c.in[len(c.in):cap(c.in)])
	switch {
	case err == syscall.EAGAIN:
		return
	case err != nil || n == 0:
		c.shut()
		return
	}
	c.in = c.in[:len(c.in)+n]
	c.serve()
}

// serve answers the requests that are whole.
func (c *conn) serve() {
	for c.fd >= 0 && !c.waiting {
		ok, err := c.parse()
		if err != nil {
			c.hang = true
			c.reply(400, apiError("InvalidRequest", err.Error()))
			return
		}
		if !ok {
			return
		}
		c.waiting = true
		c.l.api.serve(c, &c.req)
	}
}

// parse reads on in the request under way and reports whether it is whole.
func (c *conn) parse() (bool, error) {
	for {
		b := c.in[c.used:]
		switch c.state {
		case readHead:
			i := bytes.Index(b, []byte("\r\n\r\n"))
			if i < 0 {
				if len(b) > maxHead {
					return false, errRequest
				}
				return false, nil
			}
			if err := c.head(b[:i]); err != nil {
				return false, err
			}
			c.used += i + 4
			if c.state == readBody {
				c.in = room(c.in, int(c.length)-len(c.in)+c.used)
			}
		case readBody:
			if int64(len(b)) < c.length {
				return false, nil
			}
			c.req.body = b[:c.length]
			c.used += int(c.length)
			return true, nil
		case readSkip:
			n := min(int64(len(b)), c.length)
			c.length -= n
			c.in = append(c.in[:c.used], b[n:]...)
			return c.length == 0, nil
		case readChunkSize:
			line, ok := cutLine(b)
			if !ok {
				if len(b) > 1<<10 {
					return false, errRequest
				}
				return false, nil
			}
			c.used += len(line) + 2
			size, _, _ := bytes.Cut(line, []byte(";"))
			n, err := strconv.ParseUint(string(bytes.TrimSpace(size)), 16, 32)
			if err != nil {
				return false, errRequest
			}
			c.length, c.state = int64(n), readChunk
			if n == 0 {
				c.state = readTrailer
			}
		case readChunk:
			n := min(int64(len(b)), c.length)
			if int64(len(c.body))+n > frame.MaxPayload {
				c.req.tooLarge, c.body = true, c.body[:0]
			}
			if !c.req.tooLarge {
				c.body = append(c.body, b[:n]...)
			}
			// Chunks are copied out, so the buffer can be packed at once.
			c.in = append(c.in[:c.used], b[n:]...)
			if c.length -= n; c.length > 0 {
				return false, nil
			}
			c.state = readChunkEnd
		case readChunkEnd:
			if len(b) < 2 {
				return false, nil
			}
			if b[0] != '\r' || b[1] != '\n' {
				return false, errRequest
			}
			c.used += 2
			c.state = readChunkSize
		case readTrailer:
			line, ok := cutLine(b)
			if !ok {
				if len(b) > maxHead {
					return false, errRequest
				}
				return false, nil
			}
			c.used += len(line) + 2
			if len(line) == 0 {
				c.req.body = c.body
				return true, nil
			}
			if err := c.field(line); err != nil {
				return false, err
			}
		}
	}
}

// cutLine returns b up to its first CRLF.
func cutLine(b []byte) ([]byte, bool) {
	i := bytes.Index(b, []byte("\r\n"))
	if i < 0 {
		return nil, false
	}
	return b[:i], true
}

// head reads the request line and the headers and decides how the body comes.
func (c *conn) head(b []byte) error {
	c.req, c.length = request{}, 0
	line, rest, more := bytes.Cut(b, []byte("\r\n"))
	method, target, ok := bytes.Cut(line, []byte(" "))
	path, version, ok2 := bytes.Cut(target, []byte(" "))
	if !ok || !ok2 || !bytes.HasPrefix(version, []byte("HTTP/1.")) {
		return errRequest
	}
	c.req.method, c.req.path = string(method), string(path)
	c.req.close = bytes.Equal(version, []byte("HTTP/1.0"))
	for more {
		line, rest, more = bytes.Cut(rest, []byte("\r\n"))
		if err := c.field(line); err != nil {
			return err
		}
	}
	switch {
	case c.length < 0:
		c.state, c.body = readChunkSize, keep(c.body)
	case c.length > frame.MaxPayload:
		c.state, c.req.tooLarge = readSkip, true
	default:
		c.state = readBody
	}
	return nil
}

// field reads one header or trailer. Those the API has no use for are skipped.
func (c *conn) field(line []byte) error {
	name, val, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 {
		return errRequest
	}
	val = bytes.TrimSpace(val)
	switch {
	case is(name, "content-length"):
		n, err := strconv.ParseInt(string(val), 10, 64)
		if err != nil || n < 0 {
			return errRequest
		}
		if c.length == 0 {
			c.length = n
		}
	case is(name, "transfer-encoding"):
		if !is(val, "chunked") {
			return errRequest
		}
		c.length = -1
	case is(name, "connection"):
		c.req.close = is(val, "close")
	case is(name, "expect"):
		if is(val, "100-continue") {
			c.push([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
		}
	case is(name, "lambda-runtime-function-error-type"):
		c.req.errorType = string(val)
	case is(name, "lambda-runtime-function-error-body"):
		c.req.errorBody = string(val)
	}
	return nil
}

// is compares a header's name or value without case.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, x := range b {
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if x != lower[i] {
			return false
		}
	}
	return true
}

var reasons = map[int]string{
	200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
	405: "Method Not Allowed", 413: "Request Entity Too Large",
}

// reply answers the request under way with a JSON body.
func (c *conn) reply(status int, body []byte) {
	b := make([]byte, 0, 160+len(body))
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, reasons[status]...)
	b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n"...)
	if c.req.close {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	c.done(append(b, body...))
}

// accepted answers a POST that was taken. A client that has sent its next
// request already gets this answer together with that one's: nobody has to be
// woken twice.
func (c *conn) accepted() {
	if len(c.in) > c.used && !c.req.close {
		c.later = append(c.later, acceptedAnswer...)
		c.forget()
		return
	}
	c.reply(202, []byte(acceptedBody))
}

const (
	acceptedBody   = "{\"status\":\"OK\"}\n"
	acceptedAnswer = "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + acceptedBody
)

// done sends the answer to the request under way and forgets the request.
func (c *conn) done(answer []byte) {
	if c.req.close {
		c.hang = true
	}
	c.forget()
	if len(c.later) > 0 {
		answer = append(c.later, answer...)
		c.later = nil
	}
	c.push(answer)
}

// forget drops the request under way from the buffer.
func (c *conn) forget() {
	n := copy(c.in, c.in[c.used:])
	c.in = c.in[:n]
	if n == 0 {
		c.in = keep(c.in)
	}
	c.used, c.state, c.waiting = 0, readHead, false
}

// push sends b, now or when the client reads.
func (c *conn) push(b []byte) {
	if len(c.out) > 0 {
		c.out = append(c.out, b...)
		return
	}
	c.out = b
	c.write()
}

func (c *conn) write() {
	for len(c.out) > 0 {
		n, err := write(c.fd, c.out)
		if err == syscall.EAGAIN {
			if !c.full && c.l.rewatch(c.fd, syscall.EPOLLIN|syscall.EPOLLOUT) != nil {
				c.shut()
			}
			c.full = true
			return
		}
		if err != nil {
			c.shut()
			return
		}
		c.out = c.out[n:]
	}
	c.out = nil
	if c.full {
		c.full = false
		if c.l.rewatch(c.fd, syscall.EPOLLIN) != nil {
			c.shut()
			return
		}
	}
	if c.hang {
		c.shut()
	}
}

// shut closes the connection and lets the API forget it.
func (c *conn) shut() {
	if c.fd < 0 {
		return
	}
	delete(c.l.conns, c.fd)
	syscall.Close(c.fd)
	c.fd = -1
	c.l.api.gone(c)
}
