package run

import (
	"context"
	"fmt"
	"maps"
	"math"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"countersign/internal/run/frame"
	"countersign/internal/run/guest"
	"countersign/internal/run/runtimes"
	"countersign/internal/run/sandbox"
)

// Where things are inside, beyond what package runtimes names.
const (
	initPath = "/var/rapid/init"
	apiPort  = 9001
)

// fileSharing is what a driver that does not isolate says of itself: paths
// inside mean nothing there, so host paths are used throughout.
type fileSharing interface{ SharesFiles() bool }

// A plan is everything an environment is started from.
type plan struct {
	spec  sandbox.Spec
	setup frame.Setup
}

// plan lays out the guest for f on r, with the code at dir.
func (p *Pool) plan(ctx context.Context, f *Function, r *runtimes.Runtime, dir, id, stream string) (plan, error) {
	mounts := slices.Clone(r.Mounts)
	mounts = append(mounts,
		sandbox.Mount{Host: p.cfg.Init, Guest: initPath},
		sandbox.Mount{Host: dir, Guest: runtimes.TaskRoot})
	slices.SortStableFunc(mounts, func(a, b sandbox.Mount) int { return strings.Compare(a.Guest, b.Guest) })

	at := func(path string) string { return path }
	port := apiPort
	if s, ok := p.cfg.Driver.(fileSharing); ok && s.SharesFiles() {
		at = func(path string) string { return hostPath(mounts, path) }
		port = 0 // every guest has the same loopback
	}
	env, err := variables(ctx, f, r, stream, at)
	if err != nil {
		return plan{}, err
	}
	return plan{
		spec: sandbox.Spec{
			ID:       id,
			Init:     []string{at(initPath), guest.Command},
			Env:      []string{guest.Variable},
			Mounts:   mounts,
			TmpBytes: int64(f.EphemeralMB) << 20,
			Limits: sandbox.Limits{
				MemoryBytes: int64(f.MemoryMB) << 20,
				CPUs:        processors(f.MemoryMB),
				PIDs:        1024, // Lambda's limit on processes and threads
			},
			Stderr: initStderr{p, id},
		},
		setup: frame.Setup{
			Command: r.Command(f.Handler, at), Dir: at(runtimes.TaskRoot), Env: env,
			Port: port, BusyAfterMS: int(busyAfter / time.Millisecond),
		},
	}, nil
}

// busyAfter is how long an invocation waits for a runtime that has answered
// the one before and is not back yet: far less than a cold start takes.
const busyAfter = 50 * time.Millisecond

// processors is Lambda's rule, one processor for each 1,769 MB, but never
// less than one: Lambda, too, lends small functions a whole processor while
// they start, and a quota below that would make every cold start miss its mark.
func processors(memoryMB int) float64 {
	return min(max(math.Ceil(float64(memoryMB)/1769), 1), float64(runtime.NumCPU()))
}

// hostPath is where a path inside lies on the machine.
func hostPath(mounts []sandbox.Mount, p string) string {
	best := sandbox.Mount{}
	for _, m := range mounts {
		if (p == m.Guest || strings.HasPrefix(p, m.Guest+"/")) && len(m.Guest) > len(best.Guest) {
			best = m
		}
	}
	if best.Guest == "" {
		return p
	}
	return path.Join(best.Host, strings.TrimPrefix(p, best.Guest))
}

// variables is the environment of the runtime: what "Defined runtime
// environment variables" in the developer guide lists, then the user's own.
func variables(ctx context.Context, f *Function, r *runtimes.Runtime, stream string, at func(string) string) ([]string, error) {
	task, rt := at(runtimes.TaskRoot), at(runtimes.RuntimeDir)
	vars := map[string]string{
		"LANG":            "en_US.UTF-8",
		"TZ":              ":UTC",
		"PATH":            "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LD_LIBRARY_PATH": strings.Join([]string{"/var/lang/lib", "/lib64", "/usr/lib64", rt, rt + "/lib", task, task + "/lib", "/opt/lib"}, ":"),
		// No daemon listens there: tracing comes later, and SDKs are told to
		// go on without.
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":  "169.254.79.129:2000",
		"_AWS_XRAY_DAEMON_ADDRESS": "169.254.79.129",
		"_AWS_XRAY_DAEMON_PORT":    "2000",
		"AWS_LAMBDA_LOG_FORMAT":    "Text",
	}
	maps.Copy(vars, r.Env(at))
	// The user may change the variables above and none of those below.
	maps.Copy(vars, f.Env)
	maps.Copy(vars, map[string]string{
		"_HANDLER":                        f.Handler,
		"AWS_REGION":                      f.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        f.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     f.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB),
		"AWS_LAMBDA_LOG_GROUP_NAME":       f.LogGroup,
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"LAMBDA_TASK_ROOT":                task,
		"LAMBDA_RUNTIME_DIR":              rt,
	})
	if _, ok := vars["AWS_DEFAULT_REGION"]; !ok {
		vars["AWS_DEFAULT_REGION"] = f.Region
	}
	if f.Credentials != nil {
		c, err := f.Credentials(ctx)
		if err != nil {
			return nil, fmt.Errorf("credentials of %s: %w", f.Name, err)
		}
		vars["AWS_ACCESS_KEY_ID"], vars["AWS_SECRET_ACCESS_KEY"], vars["AWS_SESSION_TOKEN"] = c.AccessKeyID, c.SecretAccessKey, c.SessionToken
	}
	env := make([]string, 0, len(vars))
	for _, k := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, k+"="+vars[k])
	}
	return env, nil
}

// initStderr logs what an init complains about.
type initStderr struct {
	p  *Pool
	id string
}

func (w initStderr) Write(b []byte) (int, error) {
	w.p.cfg.Log.Warn("init", "guest", w.id, "said", strings.TrimSpace(string(b)))
	return len(b), nil
}
