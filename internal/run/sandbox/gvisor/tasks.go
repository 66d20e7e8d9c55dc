package gvisor

import (
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/seccheck"
	pb "gvisor.dev/gvisor/pkg/sentry/seccheck/points/points_go_proto"
)

// tasksFlag is our one addition to the flags of gVisor's boot command.
const tasksFlag = "guest-tasks"

// taskLimit bounds the processes and threads of a guest from inside its
// kernel, so that the one too many gets EAGAIN as it would from Linux and the
// rest live on.
//
// It sits where gVisor lets a security monitor refuse a clone(2). gVisor's own
// pids controllers would serve, but in the pinned version nothing outside a
// guest can write their limits, and RLIMIT_NPROC is not enforced. A limit on
// the host would hit the sentry's threads and end the guest instead.
type taskLimit struct {
	seccheck.SinkDefaults
	most int
}

func (taskLimit) Name() string { return "countersign-tasks" }

// Clone refuses the task that is one too many. It already counts.
func (l taskLimit) Clone(ctx context.Context, _ seccheck.FieldSet, _ *pb.CloneInfo) error {
	t := kernel.TaskFromContext(ctx)
	if t == nil || t.Kernel().TaskSet().Root.NumTasks() <= l.most {
		return nil
	}
	return linuxerr.EAGAIN
}

// limitTasks has this process's guest, if it gets one, hold at most n tasks.
func limitTasks(n int) {
	if n > 0 {
		seccheck.Global.AppendSink(taskLimit{most: n}, []seccheck.PointReq{{Pt: seccheck.PointClone}})
	}
}
