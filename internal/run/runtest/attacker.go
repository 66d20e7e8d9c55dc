package runtest

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// attacker runs the Python it is sent and answers with what it left in r, or
// with the error.
var attacker = Files{"a.py": `
import ctypes, errno, glob, os, signal, socket, subprocess, sys, time
def h(e, c):
    v = dict(globals(), r=None)
    try:
        exec(e, v)
    except BaseException as x:
        return "%s: %s" % (type(x).__name__, x)
    return v["r"]
`}

// Try runs code in an attacker and returns what it found.
func (f *Fn) Try(code string) string {
	f.p.t.Helper()
	b, err := json.Marshal(code)
	if err != nil {
		f.p.t.Fatal(err)
	}
	return string(f.Invoke(string(b)).Payload)
}

// Contained is for drivers that isolate: what a function can reach of the
// machine and of other functions, shown by trying.
func Contained(t *testing.T, k Kind) {
	needs(t, pythonRuntime)
	for _, c := range []struct {
		name string
		test func(*testing.T, *Platform)
	}{
		{"Files", seesNoFiles},
		{"Writes", writesOnlyTmp},
		{"Processes", seesNoProcesses},
		{"Network", reachesNothing},
		{"OtherFunction", reachesNoOther},
		{"Init", cannotBecomeTheInit},
		{"Memory", memoryIsBounded},
		{"Tmp", tmpIsBounded},
	} {
		t.Run(c.name, func(t *testing.T) { t.Parallel(); c.test(t, New(t, k)) })
	}
}

func (p *Platform) attacker() *Fn {
	f := p.Deploy(pythonRuntime, "a.h", attacker)
	f.MemoryMB = 128
	return f
}

// seesNoFiles: nothing of the machine's but the runtime.
func seesNoFiles(t *testing.T, p *Platform) {
	f := p.attacker()
	secret := filepath.Join(publicDir(t), "secret")
	if err := os.WriteFile(secret, []byte("the secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		secret, "/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/resolv.conf", "/var/log", "/home", "/run", "/boot", "/sys/class/net",
		home + "/.ssh", home + "/.bashrc", home + "/.profile", "/proc/1/root" + secret, "/proc/self/root" + secret, "/var/task/../../.." + secret,
	} {
		if _, err := os.Stat(path); err != nil && path[0] == '/' && !strings.HasPrefix(path, "/proc") {
			continue // not here either: proves nothing
		}
		got := f.Try(fmt.Sprintf("r = os.listdir(%[1]q) if os.path.isdir(%[1]q) else open(%[1]q).read()", path))
		if !strings.HasPrefix(got, `"FileNotFoundError`) && !strings.HasPrefix(got, `"PermissionError`) && got != "[]" {
			t.Errorf("%s: got %s", path, clip(got))
		}
	}
	if got := f.Try("r = sorted(os.listdir('/var'))"); got != `["rapid", "runtime", "task"]` {
		t.Errorf("/var: got %s", got)
	}
	if got := f.Try("r = open('/var/task/a.py').read()[:8]"); got != `"\nimport "` {
		t.Errorf("its own code: got %s", got)
	}
	if got := f.Try("r = [os.getuid() != 0, os.getgid() != 0, os.geteuid() != 0]"); got != "[true, true, true]" {
		t.Errorf("nobody's root: got %s", got)
	}
}

func writesOnlyTmp(t *testing.T, p *Platform) {
	f := p.attacker()
	for _, path := range []string{"/var/task/x", "/var/task/a.py", "/var/runtime/bootstrap.py", "/var/rapid/init", "/usr/bin/x", "/usr/lib/x", "/x", "/etc/x", "/var/x"} {
		if got := f.Try(fmt.Sprintf("open(%q, 'a').write('x')", path)); !strings.HasPrefix(got, `"OSError: [Errno 30]`) && !strings.HasPrefix(got, `"PermissionError`) && !strings.HasPrefix(got, `"FileNotFoundError`) {
			t.Errorf("write %s: got %s, want it refused", path, got)
		}
	}
	if got := f.Try("open('/tmp/x', 'w').write('mine'); r = open('/tmp/x').read()"); got != `"mine"` {
		t.Errorf("/tmp: got %s", got)
	}
	if got := f.Try("r = open('/tmp/x').read()"); got != `"mine"` {
		t.Errorf("/tmp in the next invocation: got %s", got)
	}
}

func seesNoProcesses(t *testing.T, p *Platform) {
	f := p.attacker()
	if got := f.Try("r = sorted(int(x) for x in os.listdir('/proc') if x.isdigit())"); strings.Count(got, ",") > 2 || !strings.HasPrefix(got, "[1, ") {
		t.Errorf("processes: got %s, want the init and the runtime", got)
	}
	if got := f.Try(fmt.Sprintf("os.kill(%d, 0)", os.Getpid())); !strings.HasPrefix(got, `"ProcessLookupError`) {
		t.Errorf("this test's process: got %s", got)
	}
	if got := f.Try("r = subprocess.run(['/bin/sh', '-c', 'cat /proc/*/environ /proc/*/cmdline'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode('utf8', 'replace')"); strings.Contains(got, "HOST_SECRET") {
		t.Errorf("a secret of the platform: %s", clip(got))
	}
}

// reachesNothing: no service of the machine, no network beyond it.
func reachesNothing(t *testing.T, p *Platform) {
	f := p.attacker()
	reached := make(chan string, 10)
	listen := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				reached <- network
				c.Close()
			}
		}()
		return l.Addr().String()
	}
	tcp, abstract := listen("tcp", "0.0.0.0:0"), fmt.Sprintf("@runtest-%d", os.Getpid())
	listen("unix", abstract)
	_, port, err := net.SplitHostPort(tcp)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1", "127.0.0.2", "10.0.0.1", "169.254.169.254", "8.8.8.8", "0.0.0.0"}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
				hosts = append(hosts, ip.IP.String())
			}
		}
	}
	for _, host := range hosts {
		if got := f.Try(fmt.Sprintf("socket.create_connection((%q, %s), 2); r = 'connected'", host, port)); got == `"connected"` {
			t.Errorf("%s:%s: connected", host, port)
		}
	}
	if got := f.Try(fmt.Sprintf("s = socket.socket(socket.AF_UNIX); s.connect(%q); r = 'connected'", "\x00"+abstract[1:])); got == `"connected"` {
		t.Error("an abstract socket of the machine: connected")
	}
	if got := f.Try("r = socket.getaddrinfo('example.com', 80)"); !strings.Contains(got, "rror") {
		t.Errorf("a name: got %s", got)
	}
	if got := f.Try("s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"); !strings.HasPrefix(got, `"PermissionError`) && !strings.HasPrefix(got, `"OSError`) {
		t.Errorf("a raw socket: got %s", got)
	}
	select {
	case n := <-reached:
		t.Errorf("somebody reached the machine's %s socket", n)
	default:
	}
}

// reachesNoOther: what one function leaves, another does not find, nor does a
// second environment of the same function.
func reachesNoOther(t *testing.T, p *Platform) {
	a, b := p.attacker(), p.attacker()
	if got := a.Try("open('/tmp/mine', 'w').write('x'); r = 'left'"); got != `"left"` {
		t.Fatalf("got %s", got)
	}
	if got := a.Try("s = socket.socket(); s.bind(('0.0.0.0', 9100)); s.listen(); __import__('builtins').kept = s; r = 'listening'"); got != `"listening"` {
		t.Fatalf("got %s", got)
	}
	if got := b.Try("r = [os.listdir('/tmp'), sorted(glob.glob('/proc/[0-9]*/cwd'))[2:]]"); got != "[[], []]" {
		t.Errorf("the other function: got %s, want nothing of the first", got)
	}
	if got := b.Try("socket.create_connection(('127.0.0.1', 9100), 2); r = 'connected'"); got == `"connected"` {
		t.Error("connected to the other function")
	}
	busy := make(chan string)
	go func() { busy <- a.Try("time.sleep(3); r = 'busy'") }()
	// Either it gets the first environment, and waits for nothing, or a new one.
	got := a.Try("r = os.listdir('/tmp')")
	if got != "[]" && got != `["mine"]` {
		t.Errorf("a second environment: got %s", got)
	}
	<-busy
}

// cannotBecomeTheInit: the connection to the platform is out of reach, and
// what becomes of process 1 concerns this environment only.
func cannotBecomeTheInit(t *testing.T, p *Platform) {
	f, other := p.attacker(), p.attacker()
	if got := other.Try("r = 1"); got != "1" {
		t.Fatalf("got %s", got)
	}
	// Standard input, output and error, and the Runtime API.
	if got := f.Try("r = [os.readlink(x).split(':')[0] for x in glob.glob('/proc/self/fd/*') if os.path.lexists(x)]"); got != `["/dev/null", "pipe", "pipe", "socket"]` {
		t.Errorf("descriptors: got %s", got)
	}
	for _, try := range []string{
		"os.close(os.open('/proc/1/fd/3', os.O_RDONLY)); r = 'opened'",
		"os.close(os.open('/proc/1/fd/4', os.O_WRONLY)); r = 'opened'",
		"l = ctypes.CDLL(None); r = 'taken' if l.syscall(438, l.syscall(434, 1, 0), 4, 0) >= 0 else 'refused'", // pidfd_getfd
		"open('/proc/1/mem', 'rb').read(1); r = 'read'",
		"l = ctypes.CDLL(None, use_errno=True); r = 'attached' if l.ptrace(16, 1, 0, 0) == 0 else 'refused'",
	} {
		got := f.Try(try)
		if !strings.HasPrefix(got, `"PermissionError`) && !strings.HasPrefix(got, `"FileNotFoundError`) && got != `"refused"` && got != "[]" {
			t.Errorf("%s: got %s, want it refused", try, got)
		}
	}
	f.TimeoutSeconds, f.Revision = 5, "impatient"
	f.Try("os.kill(1, signal.SIGKILL); os.kill(1, signal.SIGSEGV); time.sleep(1); r = 'alive'") // whatever comes of it
	if got := f.Try("r = 'well'"); got != `"well"` {
		t.Errorf("afterwards: got %s", got)
	}
	if r := other.Invoke(`"r = 2"`); string(r.Payload) != "2" || r.Cold {
		t.Errorf("the other function: got %s, cold %v; want it undisturbed", r.Payload, r.Cold)
	}
}

func memoryIsBounded(t *testing.T, p *Platform) {
	f := p.attacker()
	if !canBound(p, "memory") {
		t.Skip("the driver cannot bound memory on this machine")
	}
	b, _ := json.Marshal("x = [bytearray(1 << 20) for _ in range(1 << 12)]; r = len(x)")
	r := f.Invoke(string(b))
	if !strings.Contains(string(r.Payload), "signal: killed") && !strings.Contains(string(r.Payload), "MemoryError") {
		t.Errorf("4 GB in a function of 128 MB: got %s", r.Payload)
	}
	if got := f.Try("r = 'well'"); got != `"well"` {
		t.Errorf("afterwards: got %s", got)
	}
}

func canBound(p *Platform, what string) bool {
	for _, m := range p.driver.Missing() {
		if strings.HasPrefix(m, what) {
			return false
		}
	}
	return true
}

func tmpIsBounded(t *testing.T, p *Platform) {
	f := p.attacker()
	f.EphemeralMB, f.MemoryMB = 512, 256
	f.TimeoutSeconds = 60
	if got := f.Try("s = os.statvfs('/tmp'); r = s.f_frsize * s.f_blocks"); got != fmt.Sprint(512<<20) {
		t.Errorf("size of /tmp: got %s, want %d", got, 512<<20)
	}
}
