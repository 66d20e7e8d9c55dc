package guest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"countersign/internal/run/frame"
)

// A loop owns everything in the init. Nothing in it is shared with another
// goroutine.
type loop struct {
	poll  int // epoll
	in    int // control, from the platform; not blocking
	out   int // control, to the platform; a platform that does not read stops the guest
	full  int // epoll, for waiting until out takes more; 0 until that was needed
	child int // readable when a child has ended

	recv []byte // read from in and not yet a whole frame
	send []byte // frames for out, written by flush

	listener int
	conns    map[int]*conn

	logs    int    // read end of the runtime's output, -1 before there is one
	logRoom []byte // one read's worth

	api api
	pid int // of the runtime, 0 when there is none
}

func newLoop(in, out int) (*loop, error) {
	l := &loop{in: in, out: out, listener: -1, logs: -1, conns: make(map[int]*conn), logRoom: make([]byte, frame.MaxLog)}
	l.api.loop = l
	var err error
	if l.poll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return l, os.NewSyscallError("epoll_create1", err)
	}
	for _, fd := range []int{in, out} {
		syscall.CloseOnExec(fd)
		if err := syscall.SetNonblock(fd, true); err != nil {
			return l, os.NewSyscallError("set control nonblocking", err)
		}
	}
	if l.child, err = childEnded(); err != nil {
		return l, err
	}
	if err := l.watch(l.in, syscall.EPOLLIN); err != nil {
		return l, err
	}
	return l, l.watch(l.child, syscall.EPOLLIN)
}

// watch adds fd to the poll set.
func (l *loop) watch(fd int, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_ADD, fd, &ev))
}

// rewatch changes what is waited for on fd.
func (l *loop) rewatch(fd int, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_MOD, fd, &ev))
}

// run serves until the platform hangs up, which is the ordinary end.
func (l *loop) run() error {
	var evs [16]syscall.EpollEvent
	for {
		n, err := l.wait(evs[:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range evs[:n] {
			switch fd := int(ev.Fd); fd {
			case l.in:
				err = l.readControl()
			case l.child:
				err = l.reap()
			case l.listener:
				err = l.accept()
			case l.logs:
				err = l.readLogs(1)
			default:
				if c := l.conns[fd]; c != nil {
					c.event(ev.Events)
				}
			}
			if err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
		}
		l.api.tick()
		if err := l.flush(); err != nil {
			return err
		}
	}
}

// readControl takes what the platform sent.
func (l *loop) readControl() error {
	for {
		l.recv = room(l.recv, 4<<10)
		n, err := read(l.in, l.recv[len(l.recv):cap(l.recv)])
		switch {
		case err == syscall.EAGAIN:
			return nil
		case err != nil:
			return os.NewSyscallError("read control", err)
		case n == 0:
			return io.EOF
		}
		short := len(l.recv)+n < cap(l.recv)
		l.recv = l.recv[:len(l.recv)+n]
		if err := l.frames(); err != nil {
			return err
		}
		if short {
			return nil // most likely there is no more: do not ask
		}
	}
}

// frames acts on every whole frame received.
func (l *loop) frames() error {
	b := l.recv
	for {
		t, body, rest, need, ok := frame.Split(b)
		if !ok {
			// The unfinished frame moves to the front, with room for all of it.
			l.recv = room(append(l.recv[:0], b...), need-len(b))
			return nil
		}
		b = rest
		switch t {
		case frame.TypeSetup:
			s, err := frame.ParseSetup(body)
			if err != nil {
				return err
			}
			if err := l.start(s); err != nil {
				return err
			}
		case frame.TypeInvocation:
			v, err := frame.ParseInvocation(body)
			if err != nil {
				return err
			}
			if err := l.api.offer(v); err != nil {
				return err
			}
		case frame.TypePing:
			l.send = frame.Append(l.send, frame.TypePong, func(b []byte) []byte { return append(b, body...) })
		default:
			return fmt.Errorf("frame type %d from the platform: %w", t, frame.ErrMalformed)
		}
	}
}

// flush writes the frames that wait for the platform.
func (l *loop) flush() error {
	b := l.send
	for len(b) > 0 {
		n, err := write(l.out, b)
		switch {
		case err == syscall.EAGAIN:
			if err := l.awaitRoom(); err != nil {
				return err
			}
			continue
		case err == syscall.EPIPE || err == syscall.ECONNRESET:
			return io.EOF
		case err != nil:
			return os.NewSyscallError("write control", err)
		}
		b = b[n:]
	}
	l.send = keep(l.send)
	return nil
}

// readLogs moves output of the runtime into log frames: at most so many
// reads, or fewer when the pipe is empty.
func (l *loop) readLogs(most int) error {
	if l.logs < 0 {
		return nil
	}
	for range most {
		n, err := read(l.logs, l.logRoom)
		switch {
		case err == syscall.EAGAIN:
			return nil
		case err != nil:
			return os.NewSyscallError("read log pipe", err)
		case n == 0:
			// Every process that could write is gone.
			syscall.Close(l.logs)
			l.logs = -1
			return nil
		}
		l.send = frame.Append(l.send, frame.TypeLog, func(b []byte) []byte { return append(b, l.logRoom[:n]...) })
		if n < len(l.logRoom) {
			return nil
		}
		if len(l.send) > 4*frame.MaxLog {
			if err := l.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// drainReads is how many reads settle the log before an answer: the pipe
// holds at most 64 KiB that the runtime wrote before it answered, so two reads
// have all of it, whatever other processes go on writing.
const drainReads = 2

// room returns b with at least n bytes of free capacity.
func room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, len(b)+max(n, len(b), 16<<10)), b...)
}

// keep empties a buffer for its next use, unless one large payload made it
// large: memory in the guest is the function's.
func keep(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b[:0]
}

// awaitRoom waits until out takes bytes again.
func (l *loop) awaitRoom() error {
	if l.full == 0 {
		p, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("epoll_create1", err)
		}
		ev := syscall.EpollEvent{Events: syscall.EPOLLOUT, Fd: int32(l.out)}
		if err := syscall.EpollCtl(p, syscall.EPOLL_CTL_ADD, l.out, &ev); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
		l.full = p
	}
	var evs [1]syscall.EpollEvent
	for {
		if _, err := syscall.EpollWait(l.full, evs[:], -1); err != syscall.EINTR {
			return os.NewSyscallError("epoll_wait", err)
		}
	}
}

// now is the guest's clock, which is the machine's.
func now() time.Time { return time.Now() }
