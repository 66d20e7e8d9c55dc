package guest

import (
	"syscall"
	"unsafe"
)

// The loop's system calls do not tell the Go scheduler that they happen. It
// would take the processor away from a call that lasts more than 20 µs, give
// it back afterwards, and wake its monitor thread each time, which then looks
// around every 20 µs for a while. Inside a sandbox, where such a call is dear,
// that costs more than everything else the init does: a third of the processor
// time of a warm invocation, where measured. Only a wait that may be long is
// made known; see [loop.wait].

// read and write are for descriptors that do not block. They never return
// EINTR.
func read(fd int, b []byte) (int, error)  { return transfer(syscall.SYS_READ, fd, b) }
func write(fd int, b []byte) (int, error) { return transfer(syscall.SYS_WRITE, fd, b) }

func transfer(call uintptr, fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, e := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, e
		}
	}
}

// warmMS is how long wait keeps its processor: less than the 10 ms after which
// the scheduler would interrupt it.
const warmMS = 9

// wait is epoll_wait in two steps: a short one that the scheduler does not
// know of, and when nothing comes, one that sleeps as a Go program should and
// costs nothing while it does.
func (l *loop) wait(evs []syscall.EpollEvent) (int, error) {
	patience := l.api.patience()
	if patience < 0 {
		n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.poll),
			uintptr(unsafe.Pointer(&evs[0])), uintptr(len(evs)), warmMS, 0, 0)
		if e != 0 && e != syscall.EINTR {
			return 0, e
		}
		if e == 0 && n > 0 {
			return int(n), nil
		}
	}
	return syscall.EpollWait(l.poll, evs, patience)
}
