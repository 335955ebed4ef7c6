package systemd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// signatures are a property of each Go type, with the signature that it must have on the bus.
func signatures(file *os.File) []struct {
	property  Property
	signature string
} {
	return []struct {
		property  Property
		signature string
	}{
		{Property{"Type", "exec"}, "s"},
		{Property{"DynamicUser", true}, "b"},
		{Property{"SystemCallErrorNumber", int32(1)}, "i"},
		{Property{"StartLimitBurst", uint32(5)}, "u"},
		{Property{"MemoryMax", uint64(1 << 30)}, "t"},
		{Property{"Environment", []string{"A=b"}}, "as"},
		{Property{"AllowedCPUs", []byte{3}}, "ay"},
		{Property{"LogExtraFields", [][]byte{[]byte("POOL_ID=x")}}, "aay"},
		{Property{"ExecStartEx", []ExecCommand{{Path: "/a", Args: []string{"a"}, Flags: []string{"no-env-expand"}}}}, "a(sasas)"},
		{Property{"ExecStartPostEx", []ExecCommand{{Path: "/a"}}}, "a(sasas)"},
		{Property{"ExecStartPreEx", []ExecCommand{{Path: "/a"}}}, "a(sasas)"},
		{Property{"ExecStart", []PlainCommand{{Path: "/a"}}}, "a(sasb)"},
		{Property{"IPAddressAllow", []AddressPrefix{{Family: 2, Address: []byte{127, 0, 0, 0}, Prefix: 8}}}, "a(iayu)"},
		{Property{"IPAddressDeny", []AddressPrefix{}}, "a(iayu)"},
		{Property{"BindReadOnlyPaths", []BindMount{{Source: "/a", Destination: "/b", IgnoreMissing: true, Flags: 1}}}, "a(ssbt)"},
		{Property{"TemporaryFileSystem", []PathOptions{{Path: "/srv", Options: "ro"}}}, "a(ss)"},
		{Property{"DeviceAllow", []DevicePermission{{Path: "/dev/null", Permissions: "rw"}}}, "a(ss)"},
		{Property{"SystemCallFilter", SetFilter{Allow: true, Members: []string{"@system-service"}}}, "(bas)"},
		{Property{"RestrictAddressFamilies", SetFilter{}}, "(bas)"},
		{Property{"SuccessExitStatus", ExitStatusSet{Statuses: []int32{1}}}, "(aiai)"},
		{Property{"EnvironmentFiles", []EnvironmentFile{{Path: "/e", IgnoreMissing: true}}}, "a(sb)"},
		{Property{"LoadCredential", []PathString{{"id", "/path"}}}, "a(ss)"},
		{Property{"IOReadBandwidthMax", []DeviceWeight{{Path: "/dev/null", Value: 1}}}, "a(st)"},
		{Property{"StandardOutputFileDescriptor", file}, "h"},
		{Property{"AddRef", true}, "b"},
	}
}

func TestWireValueSignatures(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, c := range signatures(file) {
		t.Run(c.property.Name, func(t *testing.T) {
			v, err := wireValue(c.property.Value)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Signature().String(); got != c.signature {
				t.Errorf("signature %s, want %s", got, c.signature)
			}
		})
	}
}

// TestSignaturesAreThoseOfPID1 compares the table above with what real service units say of
// themselves.
func TestSignaturesAreThoseOfPID1(t *testing.T) {
	// Read and written in different forms: a list of commands carries its results when it is read.
	const execRead = "a(sasasttttuii)"
	written := map[string]string{"ExecStartEx": execRead, "ExecStartPreEx": execRead, "ExecStartPostEx": execRead,
		"ExecStart": "a(sasbttttuii)"}
	// Properties of StartTransientUnit that no object has.
	onlyWritten := map[string]bool{"StandardOutputFileDescriptor": true, "AddRef": true}
	for _, version := range []string{"252", "257", "262"} {
		t.Run(version, func(t *testing.T) {
			f := introspected(t, version)
			for _, c := range signatures(nil) {
				name, want := c.property.Name, c.signature
				if read, ok := written[name]; ok {
					want = read
				}
				got, has := f.Properties[name]
				if onlyWritten[name] {
					if has {
						t.Errorf("%s exists: compare its signature", name)
					}
					continue
				}
				if got != want {
					t.Errorf("%s is %q in systemd %s, want %q", name, got, version, want)
				}
			}
		})
	}
}

func TestWireValueRefusesOtherTypes(t *testing.T) {
	for _, value := range []any{1, uint(1), nil, map[string]string{}, []int{1}, struct{}{}, &SetFilter{},
		dbus.MakeVariant("x")} {
		if v, err := wireValue(value); err == nil {
			t.Errorf("%T was taken as %s", value, v.Signature())
		}
	}
	_, err := wireProperties([]Property{{"Type", "exec"}, {"MemoryMax", 5}})
	if err == nil || !strings.Contains(err.Error(), "property MemoryMax: int has no D-Bus form") {
		t.Errorf("the error does not name the property: %v", err)
	}
}

// TestWireValueEmptyListsHaveTheirSignature: nil slices reset a list, and must reach PID 1 as empty
// arrays.
func TestWireValueEmptyListsHaveTheirSignature(t *testing.T) {
	for signature, value := range map[string]any{
		"as": []string(nil), "ay": []byte(nil), "aay": [][]byte(nil), "a(sasas)": []ExecCommand(nil),
		"a(ssbt)": []BindMount(nil), "a(iayu)": []AddressPrefix(nil), "(bas)": SetFilter{},
	} {
		v, err := wireValue(value)
		if err != nil || v.Signature().String() != signature {
			t.Errorf("%T has signature %s, %v; want %s", value, v.Signature(), err, signature)
		}
	}
}

func TestFileValuePassesTheNumberOfTheFile(t *testing.T) {
	read, write, err := capturePipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	v, err := wireValue(write)
	if err != nil {
		t.Fatal(err)
	}
	if number, ok := v.Value().(dbus.UnixFD); !ok || uintptr(number) != write.Fd() {
		t.Errorf("passed %v, want %d", v.Value(), write.Fd())
	}
	write.Close()
	if _, err := wireValue(write); err == nil {
		t.Error("a closed file was passed")
	}
}

func introspected(t *testing.T, version string) Features {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("testdata", "service-"+version+".xml"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := parseFeatures(string(document))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFeatures(t *testing.T) {
	want := map[string]map[string]bool{
		"252": {"ExecStartEx": true, "RestartSteps": false, "RestartMaxDelayUSec": false, "RestartMode": false, "RestartUSecNext": false, "RestartRandomizedDelayUSec": false},
		"257": {"ExecStartEx": true, "RestartSteps": true, "RestartMaxDelayUSec": true, "RestartMode": true, "RestartUSecNext": true, "RestartRandomizedDelayUSec": false},
		"262": {"ExecStartEx": true, "RestartSteps": true, "RestartMaxDelayUSec": true, "RestartMode": true, "RestartUSecNext": true, "RestartRandomizedDelayUSec": true},
	}
	for version, properties := range want {
		f := introspected(t, version)
		for name, has := range properties {
			if f.Has(name) != has {
				t.Errorf("systemd %s has %s = %v, want %v", version, name, !has, has)
			}
		}
		if f.interfaces["ActiveState"] != unitInterface || f.interfaces["MainPID"] != serviceInterface {
			t.Errorf("systemd %s: interfaces %q, %q", version, f.interfaces["ActiveState"], f.interfaces["MainPID"])
		}
	}
}

func TestFeaturesOfOtherDocuments(t *testing.T) {
	for name, document := range map[string]string{
		"empty": "", "not_xml": "<node", "no_service": `<node><interface name="x"><property name="a" type="s"/></interface></node>`,
	} {
		t.Run(name, func(t *testing.T) {
			if f, err := parseFeatures(document); err == nil {
				t.Errorf("got %v, want an error", f)
			}
		})
	}
}

// TestUnsignalledPropertiesAreReadAgain: every property of a status is signalled, never changes, or
// is among those that are read again.
func TestUnsignalledPropertiesAreReadAgain(t *testing.T) {
	again := " " + strings.Join(unsignalledProperties(), " ") + " LoadState "
	for _, version := range []string{"252", "257", "262"} {
		document, err := os.ReadFile(filepath.Join("testdata", "service-"+version+".xml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range statusProperties() {
			_, after, found := strings.Cut(string(document), `<property name="`+name+`" `)
			if !found {
				continue // systemd 252 lacks some
			}
			head, _, _ := strings.Cut(after, "<property ")
			silent := strings.Contains(head, `value="false"`) || strings.Contains(head, `value="invalidates"`)
			if silent && !strings.Contains(again, " "+name+" ") {
				t.Errorf("systemd %s does not signal %s, and it is not read again", version, name)
			}
		}
	}
}
