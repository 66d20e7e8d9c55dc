package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestHierarchies reads machines as they are found.
func TestHierarchies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		dirs       []string // that exist below the fake root
		mounts     []string // mount point, root, type, options
		own        string
		controller string
		want       []string // "parent home"
	}{
		{
			name:   "version 1, nested",
			dirs:   []string{"cg/memory/pods/one"},
			mounts: []string{"cg/memory / cgroup rw,memory", "cg/cpu / cgroup rw,cpu,cpuacct"},
			own:    "4:memory:/pods/one\n1:cpu,cpuacct:/\n0::/\n", controller: "memory",
			want: []string{"cg/memory/pods/one cg/memory/pods/one"},
		},
		{
			name:   "version 1, controllers together",
			dirs:   []string{"cg/cpu"},
			mounts: []string{"cg/memory / cgroup rw,memory", "cg/cpu / cgroup rw,cpu,cpuacct"},
			own:    "4:memory:/\n1:cpu,cpuacct:/\n0::/\n", controller: "cpu",
			want: []string{"cg/cpu cg/cpu"},
		},
		{
			name:   "version 2, in a session",
			dirs:   []string{"cg/user.slice/s.scope"},
			mounts: []string{"cg / cgroup2 rw"},
			own:    "0::/user.slice/s.scope\n", controller: "memory",
			want: []string{"cg/user.slice/s.scope cg/user.slice/s.scope", "cg/user.slice cg/user.slice/s.scope", "cg cg/user.slice/s.scope"},
		},
		{
			name:   "version 2, in a container",
			dirs:   []string{"cg"},
			mounts: []string{"cg /docker/abc cgroup2 rw"},
			own:    "0::/\n", controller: "memory",
			want: []string{"cg cg"},
		},
		{
			name:   "both: version 1 has the controllers",
			dirs:   []string{"cg/memory", "cg/unified"},
			mounts: []string{"cg/unified / cgroup2 rw", "cg/memory / cgroup rw,memory"},
			own:    "4:memory:/\n0::/\n", controller: "memory",
			want: []string{"cg/memory cg/memory", "cg/unified cg/unified"},
		},
		{name: "none", own: "", controller: "memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for _, d := range c.dirs {
				if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var info strings.Builder
			for _, m := range c.mounts {
				f := strings.Fields(m)
				fmt.Fprintf(&info, "30 1 0:27 %s %s rw,relatime shared:9 - %s cgroup %s\n", f[1], filepath.Join(root, f[0]), f[2], f[3])
			}
			var got []string
			for _, h := range hierarchies([]byte(info.String()), []byte(c.own), c.controller) {
				got = append(got, strings.TrimPrefix(h.parent, root+"/")+" "+strings.TrimPrefix(h.home, root+"/"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
