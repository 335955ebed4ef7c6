//go:build machine

package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The test binary is three programs in a machine: the tests, which run as root, the engine that the
// rendered units start, and the gate beside it. stubVariable and the arguments select one.
const stubVariable = "RENDER_STUB"

var inMachine = flag.Bool("machine", false, "the tests run inside a test machine")

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(stubVariable) != "" && len(os.Args) > 1 && os.Args[1] == "--url":
		os.Exit(gate(os.Args[2], flagValue("--unix")))
	case os.Getenv(stubVariable) != "" && len(os.Args) > 1 && (os.Args[1] == "memory" || os.Args[1] == "gpu"):
		os.Exit(step())
	case os.Getenv(stubVariable) != "":
		os.Exit(stub())
	}
	os.Exit(m.Run())
}

// flagValue is the argument after a flag; "" where the flag is not given.
func flagValue(name string) string {
	if i := slices.Index(os.Args, name); i >= 0 && i+1 < len(os.Args) {
		return os.Args[i+1]
	}
	return ""
}

// clientOf asks an engine at its port, or on its unix socket.
func clientOf(socket string) *http.Client {
	if socket == "" {
		return http.DefaultClient
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
}

// gate waits until the engine answers; it stands for pool-gate, which is tested by itself.
func gate(url, socket string) int {
	for range 200 {
		if r, err := clientOf(socket).Get(url); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return reportGate()
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return 4
}

// gateReport is where the gate says what it may. /run is empty and read-only for the commands of
// root too.
const gateReport = "/var/log/render-gate"

func reportGate() int {
	status := self().Status
	_, err := os.Stat("/etc/pool-managerd/config.toml")
	text := fmt.Sprintf("uid %d caps %t sees %t pid %t socket %t", os.Getuid(), status["CapEff"] != "0000000000000000",
		err == nil, os.Getenv("MAINPID") != "", connects("/run/pool-managerd/gpu.sock"))
	if os.WriteFile(gateReport, []byte(text), 0o644) != nil {
		return 2
	}
	return 0
}

// stepReport is where the steps that reserve memory report their privileges.
const stepReport = "/var/log/render-steps"

func step() int {
	f, err := os.OpenFile(stepReport, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 2
	}
	defer f.Close()
	status := self().Status
	if _, err := fmt.Fprintf(f, "%s uid %d caps %t\n", strings.Join(os.Args[1:], " "), os.Getuid(),
		status["CapEff"] != "0000000000000000"); err != nil {
		return 2
	}
	return 0
}

// report is what the engine sees of itself.
type report struct {
	Args   []string
	Env    []string
	Dir    string
	UID    int
	Groups []int
	Status map[string]string // /proc/self/status
	Limits string            // /proc/self/limits
}

// stub serves its report, and tries the requested operations inside its sandbox.
func stub() int {
	network, address := "tcp", "127.0.0.1:"+flagValue("--port")
	if host := flagValue("--host"); strings.HasSuffix(host, ".sock") {
		network, address = "unix", host
	}
	l, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, "stub:", err)
		return 2
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/report", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(self()) })
	mux.HandleFunc("/try", func(w http.ResponseWriter, r *http.Request) {
		out, err := try(r.FormValue("what"), r.FormValue("on"))
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			out = err.Error()
		}
		fmt.Fprint(w, out)
	})
	fmt.Fprintln(os.Stderr, "stub:", http.Serve(l, mux))
	return 1
}

func self() report {
	r := report{Args: os.Args, Env: os.Environ(), UID: os.Getuid(), Status: map[string]string{}}
	r.Dir, _ = os.Getwd()
	r.Groups, _ = os.Getgroups()
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		r.Status[key] = value
	}
	limits, _ := os.ReadFile("/proc/self/limits")
	r.Limits = string(limits)
	return r
}

// try does one thing that a sandbox may forbid.
func try(what, on string) (string, error) {
	switch what {
	case "read":
		f, err := os.Open(on)
		if err != nil {
			return "", err
		}
		defer f.Close()
		buf := make([]byte, 64)
		n, err := f.Read(buf)
		return string(buf[:n]), err
	case "open":
		f, err := os.OpenFile(on, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		return "", f.Close()
	case "list":
		entries, err := os.ReadDir(on)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " "), err
	case "size":
		var fs syscall.Statfs_t
		err := syscall.Statfs(on, &fs)
		return strconv.FormatInt(int64(fs.Blocks)*fs.Bsize, 10), err
	case "fill":
		defer os.Remove(on)
		return "", os.WriteFile(on, make([]byte, 64<<20), 0o600)
	case "niceness":
		return niceness()
	case "policy":
		return policy()
	case "sockets":
		return openSockets()
	case "write":
		return "", os.WriteFile(on, []byte("x"), 0o600)
	case "dial":
		network, address, _ := strings.Cut(on, "!")
		c, err := net.DialTimeout(network, address, 2*time.Second)
		if err != nil {
			return "", err
		}
		return "", c.Close()
	case "allocate":
		n, err := strconv.Atoi(on)
		if err != nil {
			return "", err
		}
		block := make([]byte, n)
		for i := 0; i < n; i += 4096 {
			block[i] = 1
		}
		return strconv.Itoa(int(block[n-1])), nil
	}
	if out, known, err := tryAttack(what, on); known {
		return out, err
	}
	return "", tryCall(what, on)
}

// executeFile maps a new file as code.
func executeFile(name string) error {
	if err := os.WriteFile(name, make([]byte, 4096), 0o600); err != nil {
		return err
	}
	defer os.Remove(name)
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_EXEC, syscall.MAP_PRIVATE)
	if err != nil {
		return err
	}
	return syscall.Munmap(page)
}

// policy returns the NUMA policy of the process.
func policy() (string, error) {
	mode := uint32(0)
	if _, _, errno := syscall.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), 0, 0, 0, 0,
		0); errno != 0 {
		return "", errno
	}
	return map[uint32]string{0: "default", 1: "preferred", 2: "bind", 3: "interleave", 4: "local"}[mode&0xff], nil
}

// niceness returns the priority of the process, as nice(1) prints it.
func niceness() (string, error) {
	n, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	return strconv.Itoa(20 - n), err // the system call returns 1 to 40
}

// tryCall makes one system call that an engine has no business with.
func tryCall(what, on string) error {
	switch what {
	case "signal":
		pid, err := strconv.Atoi(on)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, 0)
	case "socket":
		family, err := strconv.Atoi(on)
		if err != nil {
			return err
		}
		fd, err := syscall.Socket(family, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			syscall.Close(fd)
		}
		return err
	case "unshare":
		return syscall.Unshare(syscall.CLONE_NEWUSER)
	case "mount":
		return syscall.Mount("none", on, "tmpfs", 0, "")
	case "sethostname":
		return syscall.Sethostname([]byte("evil"))
	case "execute_written":
		page, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE,
			syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			return err
		}
		defer syscall.Munmap(page)
		return syscall.Mprotect(page, syscall.PROT_READ|syscall.PROT_EXEC)
	case "affinity":
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &set); err != nil {
			return err
		}
		return unix.SchedSetaffinity(0, &set)
	case "memory_policy":
		const mpolDefault = 0
		if _, _, errno := syscall.Syscall(unix.SYS_SET_MEMPOLICY, mpolDefault, 0, 0); errno != 0 {
			return errno
		}
		return nil
	case "lock":
		n, err := strconv.Atoi(on)
		if err != nil {
			return err
		}
		block, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			return err
		}
		defer syscall.Munmap(block)
		return syscall.Mlock(block)
	case "execute_file":
		return executeFile(on)
	case "nice":
		return syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19) // lower than any, which takes no privilege
	case "chmod_suid":
		return syscall.Chmod(on, 0o4700)
	}
	return errors.New("stub: cannot try " + what)
}
