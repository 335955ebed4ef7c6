//go:build machine

package systemd

import (
	"strings"
	"testing"
)

// TestMachineHelperDisk: a helper writes to a small file system in memory, and to nothing else: not
// to the host's disk, and not to the shared memory of all.
func TestMachineHelperDisk(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	run(t, "touch", "/dev/shm/of-the-host")
	t.Cleanup(func() { run(t, "rm", "/dev/shm/of-the-host") })
	const script = `for dir in /tmp /var/tmp /run /var/lib /dev/shm; do
	touch $dir/x 2>/dev/null && echo "writes to $dir"
done
head -c 100M /dev/zero >/dev/shm/large 2>/dev/null || echo "$(wc -c </dev/shm/large) bytes"
test -e /dev/shm/of-the-host && echo "sees the host's"
echo "$TMPDIR"`
	all := Needs{Proc: true, Sockets: true, Generated: true, Scheduling: true}
	for name, needs := range map[string]Needs{"strict": {}, "needy": all} {
		t.Run(name, func(t *testing.T) {
			const unit = "pmd-disk.service"
			f.cleanup(unit)
			h := Helper{Description: "disk", Argv: []string{"/bin/sh", "-c", script}, Home: "yes", Memory: 64 << 20,
				Tasks: 16, Needs: needs}
			out, st, err := f.RunCapture(timeout(t), unit, h.Properties(), 1000)
			if err != nil || st.ExecMainStatus != 0 {
				t.Fatalf("%s, %v: %s", brief(st), err, out)
			}
			const want = "writes to /dev/shm\n16777216 bytes\n/dev/shm"
			if got := strings.TrimSpace(string(out)); got != want {
				t.Errorf("it reports %q, want %q", got, want)
			}
		})
	}
}
