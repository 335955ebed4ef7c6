package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

// vm is a machine made of qemu. Each boot is a qemu process of its own on the machine's disk.
type vm struct {
	cfg    Config
	dir    *runDir
	accel  []string      // qemu's options
	kernel string        // directory of the kernel
	disk   string        // this machine's changes to the shared image
	ended  chan struct{} // closed when the machine has ended and will not boot again
	once   sync.Once

	mu        sync.Mutex
	boot      *vmBoot
	rebooting bool // the end of qemu is not the machine's
}

// vmBoot is one run of qemu.
type vmBoot struct {
	process *os.Process
	exited  chan struct{}
	exit    error      // read after exited
	link    *agentLink // nil until the agent has said hello; guarded by vm.mu
}

// unitOfAgent starts the agent when commands make sense; the kernel line names the unit in
// systemd.wants=. Without its agent the machine is unusable, and its end shows that to the harness.
const unitOfAgent = `[Unit]
Description=Agent of the test harness
DefaultDependencies=no
After=basic.target dbus.service
Conflicts=shutdown.target
Before=shutdown.target
FailureAction=poweroff-force

[Service]
StandardError=journal+console
ExecStart=/usr/lib/pool-machine/agent
OOMScoreAdjust=-1000
KillMode=process
TimeoutStopSec=5s
`

// bootVM boots a virtual machine with a private copy of the root file system.
func bootVM(ctx context.Context, cfg Config, root string) (backend, error) {
	if err := needTools("qemu-system-x86_64", "qemu-img"); err != nil {
		return nil, err
	}
	kernel, err := buildKernel(ctx, cfg.Log)
	if err != nil {
		return nil, err
	}
	image, err := buildImage(ctx, root, cfg.Log)
	if err != nil {
		return nil, err
	}
	accel, err := accelerators(ctx, kernel, cfg.Log)
	if err != nil {
		return nil, err
	}
	dir, err := newRunDir(ctx)
	if err != nil {
		return nil, err
	}
	v := &vm{cfg: cfg, dir: dir, accel: accel, kernel: kernel, ended: make(chan struct{})}
	err = v.prepare(ctx, image)
	if err == nil {
		err = v.run(ctx, true)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, lastLines(v.console(), 25))
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, v.close(stop))
	}
	return v, nil
}

// prepare makes the machine's disks: an empty layer over the image, and the payload.
func (v *vm) prepare(ctx context.Context, image string) error {
	disks, err := v.dir.makeDisks()
	if err != nil {
		return err
	}
	v.disk = filepath.Join(disks, "root.qcow2")
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image,
		v.disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w\n%s", err, out)
	}
	agent, err := buildAgent(ctx, disks)
	if err != nil {
		return err
	}
	files := append([]File{
		{Guest: "/usr/lib/pool-machine/agent", Data: agent, Mode: 0o755},
		{Guest: "/etc/systemd/system/pool-machine-agent.service", Data: []byte(unitOfAgent)},
	}, v.cfg.Files...)
	modules, err := filepath.Glob(filepath.Join(v.kernel, "*.ko"))
	if err != nil {
		return err
	}
	for _, m := range modules {
		files = append(files, File{Guest: "/usr/lib/pool-machine/modules/" + filepath.Base(m), Host: m})
	}
	return writeTarFile(v.payload(), files)
}

func (v *vm) payload() string { return filepath.Join(filepath.Dir(v.disk), "payload.tar") }

// arguments is qemu's command line. There is no network card: the machine has lo.
func (v *vm) arguments(payload bool) []string {
	kernelLine := "console=ttyS0 loglevel=4 panic=-1 mitigations=off random.trust_cpu=on apparmor=0 audit=0" +
		" root=PARTUUID=" + rootPartition + " rootfstype=ext4 rw rootwait init=/usr/lib/pool-machine/init" +
		" systemd.show_status=0 systemd.unit=multi-user.target systemd.wants=pool-machine-agent.service"
	args := append(slices.Clone(v.accel), "-smp", strconv.Itoa(v.cfg.CPUs),
		"-m", strconv.Itoa(v.cfg.MemoryMiB), "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-kernel", filepath.Join(v.kernel, "vmlinuz"),
		"-chardev", "file,id=console,append=on,path="+v.dir.file("console"), "-serial", "chardev:console",
		"-chardev", "socket,id=agent,server=on,wait=off,path="+v.dir.file("agent"),
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name="+agentPort,
		"-drive", "if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,file="+v.disk, "-device",
		"nvme,drive=root,serial=root")
	if payload {
		kernelLine += " machine_payload=1"
		args = append(args, "-drive", "if=none,id=payload,format=raw,snapshot=on,file="+v.payload(),
			"-device", "nvme,drive=payload,serial=payload")
	}
	return append(args, "-append", kernelLine)
}

// run starts qemu, connects to the agent and waits for its first word.
func (v *vm) run(ctx context.Context, first bool) error {
	if err := os.RemoveAll(v.dir.file("agent")); err != nil {
		return err
	}
	log, err := os.OpenFile(v.dir.file("console"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("qemu-system-x86_64", v.arguments(first)...)
	cmd.Stdout, cmd.Stderr = log, log
	// qemu keeps its temporary layers where the disks are.
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(v.disk))
	wait, err := startTied(cmd)
	if err != nil {
		return err
	}
	b := &vmBoot{process: cmd.Process, exited: make(chan struct{})}
	go func() {
		b.exit = <-wait
		close(b.exited)
		v.mu.Lock()
		defer v.mu.Unlock()
		if !v.rebooting {
			v.once.Do(func() { close(v.ended) })
		}
	}()
	v.mu.Lock()
	v.boot, v.rebooting = b, false
	v.mu.Unlock()
	link, err := connectAgent(ctx, v.dir.file("agent"), b.exited)
	if err != nil {
		return err
	}
	v.mu.Lock()
	b.link = link
	v.mu.Unlock()
	if !first {
		return nil
	}
	return os.Remove(v.payload())
}

// current is the run of qemu at this moment.
func (v *vm) current() (*vmBoot, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.boot
	if b == nil || b.link == nil {
		return nil, errors.New("the machine is not up")
	}
	select {
	case <-b.exited:
		return nil, fmt.Errorf("the machine has ended (%v)", b.exit)
	default:
		return b, nil
	}
}

func (v *vm) start(ctx context.Context, c Command) (process, error) {
	b, err := v.current()
	if err != nil {
		return nil, err
	}
	return b.link.start(ctx, c)
}

func (v *vm) dial(ctx context.Context, network, address string) (net.Conn, error) {
	b, err := v.current()
	if err != nil {
		return nil, err
	}
	return b.link.dial(ctx, network, address)
}

// stop asks PID 1 to power off and waits for qemu's end.
func (v *vm) stop(ctx context.Context, verb string) error {
	b, err := v.current()
	if err != nil {
		return err
	}
	// The answer may or may not come before the agent is stopped.
	p, err := b.link.start(ctx, Command{Args: []string{"systemctl", "--no-block", verb}})
	if err != nil {
		return err
	}
	select {
	case <-b.exited:
		_, _ = p.wait()
		b.link.close()
		return b.exit
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reboot runs qemu again on the same disk: with -no-reboot, the guest's reboot ends qemu.
func (v *vm) reboot(ctx context.Context) error {
	v.mu.Lock()
	v.rebooting = true
	v.mu.Unlock()
	if err := v.stop(ctx, "reboot"); err != nil {
		return err
	}
	return v.run(ctx, false)
}

func (v *vm) powerOff(ctx context.Context) error { return v.stop(ctx, "poweroff") }

func (v *vm) close(ctx context.Context) error {
	v.mu.Lock()
	b := v.boot
	v.mu.Unlock()
	if b != nil {
		_ = b.process.Kill() // it may be gone
		select {
		case <-b.exited:
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of qemu: %w", ctx.Err())
		}
		v.mu.Lock()
		link := b.link
		v.mu.Unlock()
		if link != nil {
			link.close()
		}
	}
	v.once.Do(func() { close(v.ended) })
	return v.dir.remove(ctx)
}

func (v *vm) console() string {
	text, err := os.ReadFile(v.dir.file("console"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (v *vm) gone() <-chan struct{} { return v.ended }
