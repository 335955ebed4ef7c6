package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// accelerators returns qemu's options for the fastest way to run the machine that works on this
// host. The existence of /dev/kvm proves little: where the host is a machine itself, qemu may
// abort or the guest may hang. So the kernel is booted under KVM once per boot of the host, to the
// panic that it must come to without a disk.
func accelerators(ctx context.Context, kernel string, log func(string)) ([]string, error) {
	tcg := []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return tcg, nil
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	qemu, err := os.Stat(toolPath("qemu-system-x86_64"))
	if err != nil {
		return nil, err
	}
	name := "kvm-" + contentKey(string(boot), filepath.Base(kernel), fmt.Sprint(qemu.Size(), qemu.ModTime().UnixNano()))
	path, err := cached(ctx, "accelerators", name, func(path string, _ *os.File) error {
		verdict := "yes"
		if err := tryKVM(ctx, kernel); err != nil {
			if ctx.Err() != nil {
				return err
			}
			verdict = "no: " + err.Error()
		}
		say(log, "virtual machines with KVM: %s", verdict)
		return os.WriteFile(path, []byte(verdict), 0o644)
	})
	if err != nil {
		return nil, err
	}
	verdict, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if string(verdict) == "yes" {
		return []string{"-accel", "kvm", "-cpu", "max"}, nil
	}
	return tcg, nil
}

// tryKVM boots the kernel without a disk and expects it to panic, which panic=-1 and -no-reboot
// make qemu's end.
func tryKVM(ctx context.Context, kernel string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-m", "256", "-machine",
		"q35",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", filepath.Join(kernel, "vmlinuz"), "-append", "console=ttyS0 panic=-1")
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return errors.New("the kernel does not come up")
	case err != nil:
		return fmt.Errorf("qemu: %w: %s", err, firstLine(string(out)))
	case !strings.Contains(string(out), "Kernel panic"):
		return errors.New("the kernel ended before its panic")
	}
	return nil
}

// firstLine is the first line of text that is not empty.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
