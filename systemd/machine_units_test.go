//go:build machine

package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestMachineTakesEveryKindOfProperty starts a unit with a property of each Go type that a Property
// may have, and reads back what PID 1 made of some.
func TestMachineTakesEveryKindOfProperty(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@kinds.service"
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	f.start(unit, service("echo $A; exec sleep 1000",
		Property{"Environment", []string{"A=b c"}},
		Property{"StandardOutputFileDescriptor", out},
		Property{"LogExtraFields", [][]byte{[]byte("POOL_ID=a=b"), []byte("X=")}},
		Property{"ExecStartPostEx", []ExecCommand{{Path: "/bin/true", Args: []string{"true"},
			Flags: []string{"privileged"}}}},
		Property{"TimeoutStartUSec", uint64(90_000_000)},
		Property{"StartLimitBurst", uint32(4)},
		Property{"SystemCallErrorNumber", int32(1)},
		Property{"AllowedCPUs", []byte{3}},
		Property{"IPAddressDeny", []AddressPrefix{{2, []byte{0, 0, 0, 0}, 0}, {10, make([]byte, 16), 0}}},
		Property{"IPAddressAllow", []AddressPrefix{{2, []byte{127, 0, 0, 0}, 8}}},
		Property{"TemporaryFileSystem", []PathOptions{{"/srv", "ro"}}},
		Property{"BindReadOnlyPaths", []BindMount{{Source: "/etc/hostname", Destination: "/srv/model",
			IgnoreMissing: true}}},
		Property{"RestrictAddressFamilies", SetFilter{true, []string{"AF_UNIX", "AF_INET"}}},
		Property{"SystemCallFilter", SetFilter{true, []string{"@system-service"}}},
		Property{"DevicePolicy", "closed"},
		Property{"DeviceAllow", []DevicePermission{{"/dev/null", "rw"}}},
		Property{"DynamicUser", true},
	))
	st, err := f.Unit(timeout(t), unit)
	if err != nil {
		t.Fatal(err)
	}
	if st.LogFields["POOL_ID"] != "a=b" || st.LogFields["X"] != "" || len(st.LogFields) != 2 {
		t.Errorf("log fields %v", st.LogFields)
	}
	all := f.everything(unit)
	for name, want := range map[string]any{
		"StartLimitBurst": uint32(4), "SystemCallErrorNumber": int32(1), "TimeoutStartUSec": uint64(90_000_000),
		"TemporaryFileSystem":     [][]any{{"/srv", "ro"}},
		"BindReadOnlyPaths":       [][]any{{"/etc/hostname", "/srv/model", true, uint64(0)}},
		"DeviceAllow":             [][]any{{"/dev/null", "rw"}},
		"RestrictAddressFamilies": []any{true, []string{"AF_INET", "AF_UNIX"}},
	} {
		if !reflect.DeepEqual(all[name], want) {
			t.Errorf("%s = %#v, want %#v", name, all[name], want)
		}
	}
	// no-env-expand: the shell, not PID 1, expanded the variable; and the file is the unit's
	// standard output.
	if text, err := os.ReadFile(out.Name()); err != nil || string(text) != "b c\n" {
		t.Errorf("the unit wrote %q, %v", text, err)
	}
	if err := f.SetProperties(timeout(t), unit,
		[]Property{{"Description", "changed"}, {"CPUWeight", uint64(50)}}); err != nil {
		t.Error(err)
	}
	if all = f.everything(unit); all["Description"] != "changed" || all["CPUWeight"] != uint64(50) {
		t.Errorf("after SetProperties: %v, %v", all["Description"], all["CPUWeight"])
	}
}

func TestMachineReferencesKeepAUnit(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	const unit = "pmd-test@referenced.service"
	f.start(unit, service("exec sleep 1000"))
	if err := f.Ref(timeout(t), unit); err != nil {
		t.Fatal(err)
	}
	job, err := f.Stop(timeout(t), unit)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(timeout(t)); err != nil {
		t.Error(err)
	}
	f.awaitUnit(unit, "stopped, but kept", func(s Status) bool {
		return s.ActiveState == "inactive" && s.Result == "success"
	})
	if _, err := f.Unit(timeout(t), unit); err != nil {
		t.Errorf("Unit of a referenced unit = %v", err)
	}
	if err := f.Unref(timeout(t), unit); err != nil {
		t.Fatal(err)
	}
	f.awaitRemoved(unit)
}

func TestMachineFeatures(t *testing.T) {
	enter(t)
	features := follow(t, Options{}).awaitSynced(1).Features
	// "systemctl --version" begins with "systemd 257 (257.13-1~deb13u1)".
	var version int
	if _, err := fmt.Sscanf(run(t, "systemctl", "--version"), "systemd %d", &version); err != nil {
		t.Fatal(err)
	}
	for name, since := range map[string]int{"ExecStartEx": 243, "RestartSteps": 254, "ExtraFileDescriptorNames": 257,
		"RestartRandomizedDelayUSec": 262} {
		if features.Has(name) != (version >= since) {
			t.Errorf("systemd %d has %s = %v", version, name, features.Has(name))
		}
	}
	if !strings.HasPrefix(features.Version, fmt.Sprint(version)) {
		t.Errorf("version %q, want that of systemd %d", features.Version, version)
	}
}
