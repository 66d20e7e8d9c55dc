package guest

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"countersign/internal/run/frame"
)

// start listens for the runtime and starts it.
func (l *loop) start(s *frame.Setup) error {
	if l.pid != 0 || l.listener >= 0 {
		return fmt.Errorf("a second setup: %w", frame.ErrMalformed)
	}
	port, err := l.listen(s.Port)
	if err != nil {
		return fmt.Errorf("listen for the runtime: %w", err)
	}
	l.api.busyAfter = time.Duration(s.BusyAfterMS) * time.Millisecond
	env := append(s.Env, "AWS_LAMBDA_RUNTIME_API=127.0.0.1:"+strconv.Itoa(port))

	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	if err := syscall.SetNonblock(p[0], true); err != nil {
		return os.NewSyscallError("set log pipe nonblocking", err)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	attr := &syscall.ProcAttr{
		Dir: s.Dir,
		Env: env,
		// One pipe for both, so that the order of the writes is the order of
		// the log.
		Files: []uintptr{uintptr(null), uintptr(p[1]), uintptr(p[1])},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	if err := confine(); err != nil {
		return err
	}
	l.pid, err = syscall.ForkExec(s.Command[0], s.Command, attr)
	syscall.Close(p[1])
	syscall.Close(null)
	l.logs = p[0]
	if err != nil {
		l.pid = 0
		why := (&os.PathError{Op: "fork/exec", Path: s.Command[0], Err: err}).Error()
		l.send = (&frame.Exited{Code: 127, Start: why}).Append(l.send)
		l.api.phase = over
		return nil
	}
	return l.watch(l.logs, syscall.EPOLLIN)
}

// confine keeps set-user-id programs from meaning anything to the processes
// forked by this thread, and the runtime, which is the same user, from looking
// into the init. What a runtime could do there is answer its own invocations,
// which it can anyway; but the less it can confuse, the better.
func confine() error {
	const (
		prSetDumpable   = 4
		prSetNoNewPrivs = 38
	)
	for _, p := range [...][2]uintptr{{prSetNoNewPrivs, 1}, {prSetDumpable, 0}} {
		if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, p[0], p[1], 0, 0, 0, 0); e != 0 {
			return os.NewSyscallError("prctl", e)
		}
	}
	return nil
}

// reap collects every child that has ended. As process 1 the init inherits
// orphans; only the runtime's own end is news.
func (l *loop) reap() error {
	var junk [64]byte
	for {
		if n, _ := read(l.child, junk[:]); n <= 0 {
			break
		}
	}
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.ECHILD || pid == 0:
			return nil
		case err != nil:
			return os.NewSyscallError("wait4", err)
		case pid != l.pid:
			continue
		}
		// The runtime's last words come before the news of its end.
		if err := l.readLogs(drainReads); err != nil {
			return err
		}
		e := frame.Exited{Delivered: l.api.phase == running}
		if ws.Signaled() {
			e.Signal = int(ws.Signal())
		} else {
			e.Code = ws.ExitStatus()
		}
		l.send = e.Append(l.send)
		l.pid, l.api.phase = 0, over
	}
}

// killRuntime ends the runtime and what it started, as far as they stayed in
// its process group. In a sandbox the kernel does the rest when process 1
// ends.
func (l *loop) killRuntime() {
	if l.pid > 0 {
		_ = syscall.Kill(-l.pid, syscall.SIGKILL)
	}
}
