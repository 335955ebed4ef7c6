package seccomp_test

import (
	"encoding/json"
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/pool-managerd/pool-managerd/units/seccomp"
)

// permits reports whether a profile has a rule that allows a call, whatever its arguments.
func permits(p *specs.LinuxSeccomp, call string) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
		return s.Action == specs.ActAllow && len(s.Args) == 0 && slices.Contains(s.Names, call)
	})
}

// families returns the address families of the sockets that a profile allows.
func families(p *specs.LinuxSeccomp) (all []uint64) {
	for _, s := range p.Syscalls {
		if slices.Equal(s.Names, []string{"socket"}) && s.Action == specs.ActAllow && len(s.Args) == 1 {
			all = append(all, s.Args[0].Value)
		}
	}
	return all
}

func TestProfile(t *testing.T) {
	plain := seccomp.Profile(seccomp.Options{Arch: "amd64"})
	if plain.DefaultAction != specs.ActErrno || !slices.Equal(plain.Architectures, []specs.Arch{specs.ArchX86_64}) {
		t.Errorf("default %s, architectures %s", plain.DefaultAction, plain.Architectures)
	}
	for call, want := range map[string]bool{
		"read": true, "mmap": true, "execve": true, "futex": true, "io_uring_setup": false, "io_uring_enter": false, "io_submit": true, "accept4": true, "exit_group": true,
		"mount": false, "unshare": false, "setns": false, "bpf": false, "ptrace": false, "init_module": false, "reboot": false,
		"socket": false, "clone": false, "clone3": false, "chown": false, "setuid": false, "keyctl": true, "kexec_load": false,
		"sched_setaffinity": false, "mbind": false, "open_by_handle_at": false, "perf_event_open": false, "swapon": false,
	} {
		if permits(plain, call) != want {
			t.Errorf("%s is permitted without conditions: %v", call, !want)
		}
	}
	if got := families(plain); !slices.Equal(got, []uint64{1, 2, 10}) {
		t.Errorf("sockets of the families %d", got)
	}
	relaxed := seccomp.Profile(seccomp.Options{Arch: "arm64", Allow: []string{"mbind"}, Netlink: true})
	if !permits(relaxed, "mbind") || permits(relaxed, "sched_setaffinity") || !slices.Contains(families(relaxed), 16) ||
		!slices.Equal(relaxed.Architectures, []specs.Arch{specs.ArchAARCH64}) {
		t.Errorf("relaxed: %+v", relaxed)
	}
}

// TestNewNamespaces: the flags of a clone that opens any namespace do not match the rule.
func TestNewNamespaces(t *testing.T) {
	for _, s := range seccomp.Profile(seccomp.Options{}).Syscalls {
		if !slices.Contains(s.Names, "clone") {
			continue
		}
		mask := s.Args[0].Value
		for _, flag := range []uint64{0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000} {
			if flag&mask == 0 {
				t.Errorf("clone with %#x is permitted", flag)
			}
		}
		if mask&0x3d0f00 != 0 {
			t.Errorf("the flags of a thread are refused")
		}
		return
	}
	t.Error("no rule for clone")
}

func TestMarshal(t *testing.T) {
	data, err := seccomp.Marshal(seccomp.Options{Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	var back specs.LinuxSeccomp
	if err := json.Unmarshal(data, &back); err != nil || len(back.Syscalls) != 6 || back.DefaultErrnoRet == nil {
		t.Errorf("%v: %+v", err, back)
	}
}
