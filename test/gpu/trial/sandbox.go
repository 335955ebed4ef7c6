package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// keep writes a text beside the report.
func keep(tools Tools, name, text string) error {
	return os.WriteFile(filepath.Join(tools.Out, name), []byte(text), 0o644)
}

// rendered returns the unit of a pool on these devices, as the manager renders it. The pool itself
// waits: it asks for more memory than there is.
func rendered(ctx context.Context, tools Tools, id, devices string, tables ...string) (unitText, error) {
	lines := []string{`vram = "1000G"`}
	if devices == "[]" {
		lines = nil
	}
	file := poolFile(tools, devices, lines, "--gib", "1") + strings.Join(tables, "\n")
	if err := writePools(ctx, map[string]string{id: file}); err != nil {
		return nil, err
	}
	var text string
	err := eventually(ctx, pollPause, func() (err error) {
		text, err = output(ctx, "poolctl", "render", id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(keep(tools, "unit-"+id+".service", text), writePools(ctx,
		map[string]string{id: ""})); err != nil {
		return nil, err
	}
	u := parseUnit(text)
	if len(u) < 20 {
		return nil, fmt.Errorf("poolctl render printed %q", text)
	}
	return u, nil
}

// variant is the sandbox with one line changed.
type variant struct {
	name   string
	change func(unitText) unitText
}

// stricter are lines that are relaxed for an engine on a GPU, or that could be stricter: where all
// works with one, the relaxation is not needed.
var stricter = []variant{
	{"MemoryDenyWriteExecute=yes", func(u unitText) unitText { return u.with("MemoryDenyWriteExecute", "yes") }},
	{"SystemCallFilter=~@resources", func(u unitText) unitText { return u.and("SystemCallFilter", "~@resources") }},
	{"SystemCallFilter=~@memlock", func(u unitText) unitText { return u.and("SystemCallFilter", "~@memlock") }},
	{"ProcSubset=pid", func(u unitText) unitText { return u.with("ProcSubset", "pid") }},
	{"/dev/shm noexec", noexecShm},
	{"SupplementaryGroups= (empty)", func(u unitText) unitText { return u.with("SupplementaryGroups") }},
	{"no DeviceAllow=/dev/nvidiactl", func(u unitText) unitText {
		return u.without("DeviceAllow",
			"/dev/nvidiactl rw")
	}},
	{"no DeviceAllow=/dev/nvidia-uvm", func(u unitText) unitText {
		return u.without("DeviceAllow",
			"/dev/nvidia-uvm rw")
	}},
	{"no DeviceAllow=/dev/nvidia-uvm-tools", func(u unitText) unitText {
		return u.without("DeviceAllow",
			"/dev/nvidia-uvm-tools rw")
	}},
	{"PrivateDevices=yes", func(u unitText) unitText { return u.with("PrivateDevices", "yes") }},
	{"PrivateNetwork=yes", func(u unitText) unitText { return u.with("PrivateNetwork", "yes") }},
	{"RestrictAddressFamilies=AF_UNIX", func(u unitText) unitText {
		return u.with("RestrictAddressFamilies",
			"AF_UNIX")
	}},
	{"LimitMEMLOCK=0", func(u unitText) unitText { return u.with("LimitMEMLOCK", "0") }},
	{"MemoryMax=2G", func(u unitText) unitText { return u.with("MemoryMax", "2G").and("MemorySwapMax", "0") }},
	{"MemoryMax=1G", func(u unitText) unitText { return u.with("MemoryMax", "1G").and("MemorySwapMax", "0") }},
	{"the four lines of a CPU engine together", func(u unitText) unitText {
		return noexecShm(u).with("MemoryDenyWriteExecute", "yes").with("ProcSubset",
			"pid").and("SystemCallFilter", "~@resources")
	}},
	{"TasksMax=256", func(u unitText) unitText { return u.with("TasksMax", "256") }},
	{"NoExecPaths=/var/lib /var/cache /tmp", func(u unitText) unitText {
		return u.and("NoExecPaths",
			"/var/lib /var/cache /tmp")
	}},
}

// looser are the sandbox with one line left out or relaxed. They are tried where something does not
// work, to find the line.
var looser = []variant{
	{"no sandbox: a user, directories and the environment", bare},
	{"AF_NETLINK too", func(u unitText) unitText { return u.and("RestrictAddressFamilies", "AF_NETLINK") }},
	{"any address family", func(u unitText) unitText { return u.without("RestrictAddressFamilies", "") }},
	{"any IP address", func(u unitText) unitText {
		return u.without("IPAddressDeny",
			"").without("IPAddressAllow", "")
	}},
	{"any system call", func(u unitText) unitText { return u.without("SystemCallFilter", "") }},
	{"PrivateUsers=no", func(u unitText) unitText { return u.with("PrivateUsers", "no") }},
	{"any device", func(u unitText) unitText { return u.with("DevicePolicy", "auto").without("DeviceAllow", "") }},
	{"the host's /run", func(u unitText) unitText { return u.without("TemporaryFileSystem", "/run:ro") }},
	{"the host's /dev/shm", func(u unitText) unitText { return u.replace("TemporaryFileSystem", "/dev/shm:", nil) }},
	{"ProtectProc=default", func(u unitText) unitText { return u.with("ProtectProc", "default") }},
	{"no RestrictNamespaces", func(u unitText) unitText { return u.without("RestrictNamespaces", "") }},
	{"ProtectSystem=no", func(u unitText) unitText { return u.with("ProtectSystem", "no") }},
	{"ProtectHome=no", func(u unitText) unitText { return u.with("ProtectHome", "no") }},
	{"ProtectKernelTunables=no", func(u unitText) unitText { return u.with("ProtectKernelTunables", "no") }},
	{"ProtectControlGroups=no", func(u unitText) unitText { return u.with("ProtectControlGroups", "no") }},
	{"no LockPersonality", func(u unitText) unitText { return u.with("LockPersonality", "no") }},
	{"DynamicUser=no", func(u unitText) unitText { return u.with("DynamicUser", "no").without("User", "") }},
}

// bare leaves nothing of the sandbox.
func bare(u unitText) unitText {
	var rest unitText
	for _, l := range u {
		switch l.key {
		case "Environment", "User", "DynamicUser", "StateDirectory", "CacheDirectory", "SupplementaryGroups",
			"LimitNOFILE", "TasksMax":
			rest = append(rest, l)
		}
	}
	return rest
}

// noexecShm is a /dev/shm in which no file can be mapped as code.
func noexecShm(u unitText) unitText {
	return u.replace("TemporaryFileSystem", "/dev/shm:", func(value string) string { return value + ",noexec" })
}

// subject is a program that the sandbox is tried with.
type subject struct {
	name    string
	command []string
}

// subjects are those that this host can run.
func subjects(ctx context.Context, tools Tools) []subject {
	var all []subject
	if tools.Python != "" {
		compiles := exec.CommandContext(ctx, tools.Python, "-c", "import triton").Run() == nil
		for _, name := range []string{"lines", "torch", "expandable", "triton", "compile", "nccl", "gloo"} {
			if (name == "triton" || name == "compile") && !compiles {
				continue
			}
			all = append(all, subject{name, []string{tools.Python, tools.engine(), "probe", name}})
		}
	}
	for _, name := range []string{"cuda-native", "cuda-ptx"} {
		if _, err := os.Stat(filepath.Join(tools.CUDA, name)); err == nil {
			all = append(all, subject{name, []string{filepath.Join(tools.CUDA, name)}})
		}
	}
	return all
}

// sandboxTable tries each line of the sandbox with each subject.
func sandboxTable(ctx context.Context, t *Table, tools Tools) error {
	base, err := rendered(ctx, tools, "sandbox", "[0]")
	if err != nil {
		return errors.Join(err, keepJournal(tools))
	}
	all := subjects(ctx, tools)
	if len(all) == 0 {
		return errors.New("neither PyTorch nor nvcc on this host")
	}
	t.Header = []string{"the rendered unit"}
	for _, s := range all {
		t.Header = append(t.Header, s.name)
	}
	whole := variant{"as it is", func(u unitText) unitText { return u }}
	results, err := tryVariants(ctx, t, tools, base, []variant{whole}, all)
	if err != nil {
		return err
	}
	works, fails := make([]subject, len(all)), make([]subject, len(all))
	failed := false
	for i, s := range all {
		if results[0][i].err == nil {
			works[i] = s
			continue
		}
		fails[i], failed = s, true
	}
	t.note("An empty cell was not tried: looser lines where all works as it is, stricter ones where it fails.")
	if failed {
		allowed, err := rendered(ctx, tools, "allowed", "[0]", "[sandbox]\nallow = [\"netlink\"]\n")
		if err != nil {
			return err
		}
		pool := variant{`[sandbox] allow = ["netlink"]`, func(unitText) unitText { return allowed }}
		loosened, err := tryVariants(ctx, t, tools, base, append([]variant{pool}, looser...), fails)
		if err != nil {
			return err
		}
		for i, s := range fails {
			if s.command != nil && loosened[0][i].err != nil {
				t.fault("%s does not work in the sandbox: %v", s.name, results[0][i].err)
			}
		}
	}
	rest := stricter
	if tools.Fake { // which needs nothing of the sandbox: a few show that they are tried
		rest = rest[:3]
	}
	_, err = tryVariants(ctx, t, tools, base, rest, works)
	return err
}

// tryVariants runs every subject that has a command in every variant, and adds a row for each.
func tryVariants(ctx context.Context, t *Table, tools Tools, base unitText, variants []variant,
	all []subject) ([][]*trialUnit, error) {
	results := make([][]*trialUnit, len(variants))
	var units []*trialUnit
	for i, v := range variants {
		for _, s := range all {
			name := fmt.Sprintf("trial-%s-%s", s.name, slug(v.name))
			u := &trialUnit{name: name, text: v.change(base), command: s.command, err: context.Canceled}
			results[i] = append(results[i], u)
			if s.command != nil {
				units = append(units, u)
			}
		}
	}
	if err := tryAll(ctx, tools.Out, units, tools.atOnce()); err != nil {
		return nil, err
	}
	for i, v := range variants {
		cells := []any{v.name}
		for _, u := range results[i] {
			cells = append(cells, t.cell(u))
		}
		t.row(cells...)
	}
	return results, nil
}

// cell is a result; the reasons of failures are in the notes, each once.
func (t *Table) cell(u *trialUnit) string {
	err := u.err
	switch {
	case err == nil && strings.HasPrefix(u.name, "trial-lines-"):
		return u.answer.Says
	case err == nil:
		return "works"
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return ""
	}
	reason := strings.TrimSuffix(err.Error(), ".") + "."
	at := slices.IndexFunc(t.Notes, func(n string) bool { return strings.HasSuffix(n, "]: "+reason) })
	if at < 0 {
		at = len(t.Notes)
		t.note("[%d]: %s", at, reason)
	}
	return fmt.Sprintf("fails [%d]", at)
}

// slug is a variant's name for a unit.
func slug(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name), "_")
}

// masks tries what an engine sees with its mask, with another, and without.
func masks(ctx context.Context, t *Table, tools Tools) error {
	t.Header = []string{"unit", "CUDA_VISIBLE_DEVICES", "GPUs that CUDA sees", "nodes that can be opened"}
	with, err := rendered(ctx, tools, "masked", "[0]")
	if err != nil {
		return err
	}
	without, err := rendered(ctx, tools, "unmasked", "[]")
	if err != nil {
		return err
	}
	mask := func(u unitText) string {
		for _, l := range u {
			if value, ok := strings.CutPrefix(l.value, "CUDA_VISIBLE_DEVICES="); ok {
				return value
			}
		}
		return ""
	}
	uuid := mask(with)
	other := "GPU-00000000-0000-0000-0000-000000000000"
	command := []string{tools.Python, tools.engine(), "probe", "devices"}
	set := func(u unitText, value string) unitText {
		return u.without("Environment", "CUDA_VISIBLE_DEVICES="+mask(u)).and("Environment",
			"CUDA_VISIBLE_DEVICES="+value)
	}
	cases := []struct {
		title, slug string
		text        unitText
		gpus        int
		opens       bool
	}{
		{"devices = [0]", "own", with, 1, true},
		{"devices = [0], another UUID", "other", set(with, other), 0, true},
		{"devices = [0], another UUID first", "other-first", set(with, other+","+uuid), 0, true},
		{"devices = [0], the index", "index", set(with, "0"), 1, true},
		{"devices = []", "none", without, 0, false},
		{"devices = [], a mask set by the engine itself", "forced", set(without, uuid), 0, false},
	}
	var units []*trialUnit
	for _, c := range cases {
		units = append(units, &trialUnit{name: "trial-mask-" + c.slug, text: c.text, command: command})
	}
	if err := tryAll(ctx, tools.Out, units, tools.atOnce()); err != nil {
		return err
	}
	for i, c := range cases {
		u := units[i]
		if u.err != nil {
			t.row(c.title, mask(c.text), "unknown", u.err)
			t.fault("%s: %v", c.title, u.err)
			continue
		}
		t.row(c.title, mask(c.text), fmt.Sprintf("%d %s", u.answer.GPUs, u.answer.UUID), u.answer.Nodes)
		opens := strings.Contains(u.answer.Nodes+" ", "/dev/nvidia0 ")
		if u.answer.GPUs != c.gpus && !(tools.Fake && c.slug == "forced") || opens != c.opens {
			t.fault("%s: CUDA sees %d GPUs, and %q can be opened", c.title, u.answer.GPUs, u.answer.Nodes)
		}
		if c.slug == "own" && !strings.EqualFold(u.answer.UUID, uuid) {
			t.fault("the mask is %s, and CUDA sees %s", uuid, u.answer.UUID)
		}
	}
	return nil
}
