package trial

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

const renderedUnit = `# a comment with Key=value
[Unit]
Description=Engine
[Service]
# why
Type=exec
ExecStart=:/usr/bin/engine
StateDirectory=pool-engine/a.r0
Environment=HOME=/var/lib/pool-engine/a.r0
Environment=CUDA_VISIBLE_DEVICES=GPU-1
TemporaryFileSystem=/run:ro
TemporaryFileSystem=/dev/shm:mode=1777,size=9
DeviceAllow=/dev/nvidiactl rw
DeviceAllow=/dev/nvidia0 rw
SystemCallFilter=@system-service
`

// TestUnitText: a variant changes the line that it is about and no other.
func TestUnitText(t *testing.T) {
	base := parseUnit(renderedUnit)
	for _, c := range []struct {
		name       string
		got        unitText
		gone, more []string
	}{
		{"without_a_value", base.without("DeviceAllow", "/dev/nvidia0 rw"),
			[]string{"DeviceAllow=/dev/nvidia0 rw"}, nil},
		{"without_a_key", base.without("DeviceAllow", ""), []string{"DeviceAllow=/dev/nvidiactl rw",
			"DeviceAllow=/dev/nvidia0 rw"}, nil},
		{"with", base.with("Type", "oneshot"), []string{"Type=exec"}, []string{"Type=oneshot"}},
		{"with_none", base.with("Type"), []string{"Type=exec"}, nil},
		{"and", base.and("SystemCallFilter", "~@resources"), nil, []string{"SystemCallFilter=~@resources"}},
		{"noexec_shm", noexecShm(base), []string{"TemporaryFileSystem=/dev/shm:mode=1777,size=9"},
			[]string{"TemporaryFileSystem=/dev/shm:mode=1777,size=9,noexec"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.Split(strings.TrimSpace(base.String()), "\n")
			got := "\n" + c.got.String()
			for _, line := range want {
				gone := strings.Contains("\n"+strings.Join(c.gone, "\n")+"\n", "\n"+line+"\n")
				if strings.Contains(got, "\n"+line+"\n") == gone {
					t.Errorf("%q: gone %t, want %t", line, !gone, gone)
				}
			}
			for _, line := range c.more {
				if !strings.Contains(got, "\n"+line+"\n") {
					t.Errorf("no %q in%s", line, got)
				}
			}
			if n := strings.Count(got, "\n") - 1; n != len(want)-len(c.gone)+len(c.more) {
				t.Errorf("%d lines in%s", n, got)
			}
		})
	}
}

// TestEveryVariantChangesTheUnit: a variant that finds nothing to change would show that a line is
// not needed, whatever the engine needs.
func TestEveryVariantChangesTheUnit(t *testing.T) {
	base := parseUnit(renderedUnit + `DeviceAllow=/dev/nvidia-uvm rw
DeviceAllow=/dev/nvidia-uvm-tools rw
DynamicUser=yes
User=pe-a
DevicePolicy=closed
SupplementaryGroups=video
RestrictAddressFamilies=AF_UNIX AF_INET
IPAddressDeny=any
RestrictNamespaces=uts
`)
	for _, v := range append(looser, stricter...) {
		if v.change(base).String() == base.String() {
			t.Errorf("%s changes nothing", v.name)
		}
	}
}

// TestProbe: what is tried runs in the sandbox and in directories of its own, and is no engine.
func TestProbe(t *testing.T) {
	got := parseUnit(renderedUnit).probe("trial-x", "/out/x", "/bin/x", "y").String()
	for _, line := range []string{"Type=oneshot", "ExecStart=/bin/x y", "StateDirectory=pool-engine/trial-x",
		"Environment=HOME=/var/lib/pool-engine/trial-x", "Environment=CUDA_VISIBLE_DEVICES=GPU-1",
		"StandardOutput=file:/out/x",
		"SystemCallFilter=@system-service"} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	for _, word := range []string{"/usr/bin/engine", "Type=exec", "a.r0", "[Unit]"} {
		if strings.Contains(got, word) {
			t.Errorf("%q in\n%s", word, got)
		}
	}
}

// TestMountPoints: file systems with programs and data are shown in the container, the kernel's own
// and the root are not.
func TestMountPoints(t *testing.T) {
	got := mountPoints(`25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
26 25 0:5 / /dev rw - devtmpfs devtmpfs rw
27 25 0:22 / /proc rw - proc proc rw
28 25 7:0 / /usr/local/nvidia ro,relatime - squashfs /dev/loop0 ro
29 25 8:1 /x /run/data rw - ext4 /dev/sda1 rw
30 25 8:2 / /srv/my\040models rw - xfs /dev/sdb rw
31 25 8:1 /lib/libcuda.so.1 /usr/lib/libcuda.so.1 ro - ext4 /dev/sda1 rw
broken
`)
	if want := "/usr/local/nvidia|/srv/my models|/usr/lib/libcuda.so.1"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestReport: a failed step has its reason and what it had found, a fault is printed, and the next
// step runs. A step that hangs ends at its limit.
func TestReport(t *testing.T) {
	var r Report
	RunAll(t.Context(), []Step{
		{"one", time.Minute, func(_ context.Context, t *Table) error {
			t.Header = []string{"a", "b"}
			t.row("x|y", 3)
			t.fault("%d is too few", 3)
			return errors.New("no nvcc")
		}},
		{"two", time.Millisecond, func(ctx context.Context, _ *Table) error {
			<-ctx.Done()
			return ctx.Err()
		}},
		{"three", time.Minute, func(_ context.Context, t *Table) error {
			t.note("done")
			return nil
		}},
	}, func(t Table) { r.Tables = append(r.Tables, t) })
	got := r.Markdown()
	for _, want := range []string{"### one\n\n| a | b |\n| --- | --- |\n| x\\|y | 3 |\n",
		"- **Fault:** 3 is too few", "- Not run: no nvcc",
		"### two\n\n- Not run: context deadline exceeded", "### three\n\n- done\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if faults := r.Faults(); len(faults) != 1 || faults[0] != "one: 3 is too few" {
		t.Errorf("faults %q", faults)
	}
}
