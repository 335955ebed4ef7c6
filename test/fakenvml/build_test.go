package fakenvml

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// exports are the functions that programs find in a library.
func exports(t *testing.T, old bool) []string {
	t.Helper()
	path, err := Build(t.Context(), t.TempDir(), old)
	if err != nil {
		t.Fatal(err)
	}
	library, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer library.Close()
	if name, err := library.DynString(elf.DT_SONAME); err != nil || !slices.Equal(name, []string{SOName}) ||
		filepath.Base(path) != SOName {
		t.Errorf("%s is named %q, %v", path, name, err)
	}
	symbols, err := library.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range symbols {
		if s.Section == elf.SHN_UNDEF {
			continue
		}
		if !strings.HasPrefix(s.Name, "nvml") {
			t.Errorf("%s is seen by every program, and is none of NVML's names", s.Name)
		}
		names = append(names, s.Name)
	}
	slices.Sort(names)
	return names
}

// TestMissingSymbols: what an old library lacks is really not there, so that a call of it ends the
// process as it would with a real one.
func TestMissingSymbols(t *testing.T) {
	now, old := exports(t, false), exports(t, true)
	var missing []string
	for _, name := range now {
		if !slices.Contains(old, name) {
			missing = append(missing, name)
		}
	}
	want := []string{
		"nvmlDeviceGetAttributes_v2", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetFieldValues", "nvmlDeviceGetGraphicsRunningProcesses_v3",
		"nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetRemappedRows",
	}
	if diff := cmp.Diff(want, missing); diff != "" {
		t.Errorf("-want +missing\n%s", diff)
	}
}

// TestHangReachesEveryCall: a test that has a call hang must not pass because that call never
// looks.
func TestHangReachesEveryCall(t *testing.T) {
	files, err := filepath.Glob("src/*.c")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range files {
		code, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(code)
	}
	for _, name := range exports(t, false) {
		// The first three do nothing but call the newer version; nvmlErrorString asks no driver.
		if name == "nvmlInit" || name == "nvmlEventSetWait" || name == "nvmlSystemGetCudaDriverVersion" ||
			name == "nvmlErrorString" {
			continue
		}
		if !strings.Contains(text.String(), `"`+name+`"`) && !strings.Contains(text.String(), "BEGIN("+name+",") {
			t.Errorf("%s cannot be made to hang", name)
		}
	}
}
