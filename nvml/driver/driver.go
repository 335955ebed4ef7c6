// Package driver reads GPUs through NVIDIA's library, and is the only importer of go-nvml. It
// implements serve.Library.
//
// go-nvml binds the library's functions when they are first called: a call to one that the library
// lacks ends the process, and so does every call before the library is loaded. So the library is
// opened here first, each function is looked up before its first call, and what is missing is
// absent and named in nvml.Driver.Missing. No text is asked from the library: nvmlErrorString is
// one of the calls.
//
// One goroutine calls Open, Sample, Watch, Unwatch and Close; Wait may run beside Sample alone. The
// package decides nothing: what a fault means, how often to sample and when to try again is for
// others.
package driver

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
)

// DefaultLibrary is what the dynamic loader is asked for, in its own search order.
const DefaultLibrary = "libnvidia-ml.so.1"

// Options of New. The zero value is right for a host.
type Options struct {
	Library string     // path or name of the library; DefaultLibrary where empty
	Proc    string     // where the kernel and the driver show themselves: /proc
	Tree    owner.Tree // where units of processes are found
}

// Driver is a process's one way to NVML.
type Driver struct {
	o       Options
	api     gonvml.Interface
	library *dl.DynamicLibrary // nil: not loaded yet. Never closed, so that its functions stay where they were bound.
	open    bool               // Init succeeded, Shutdown has not been called since
	missing map[string]bool    // functions that were wanted and are not there
	known   map[string]bool    // functions that were looked up, and whether they are there

	cards  []*card // of this session, by index; nil: not reached yet
	facts  nvml.Driver
	minors minors  // of MIG capability nodes, read again with each sample
	seen   *roster // identities over all sessions of this process

	set      gonvml.EventSet // nil: not watching
	watched  map[gonvml.Device]string
	inFlight atomic.Pointer[call]
}

type call struct {
	name  string
	since time.Time
}

// New loads nothing yet.
func New(o Options) *Driver {
	if o.Library == "" {
		o.Library = DefaultLibrary
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	return &Driver{
		o: o, api: gonvml.New(gonvml.WithLibraryPath(o.Library)),
		missing: make(map[string]bool), known: make(map[string]bool), seen: newRoster(),
	}
}

// Call reports which NVML call runs now and since when; an empty name for none. EventSetWait, which
// blocks by design, is left out. Safe at any time.
func (d *Driver) Call() (name string, since time.Time) {
	if c := d.inFlight.Load(); c != nil {
		return c.name, c.since
	}
	return "", time.Time{}
}

// enter notes the call that is about to be made; leave that it returned.
func (d *Driver) enter(name string) { d.inFlight.Store(&call{name, time.Now()}) }
func (d *Driver) leave()            { d.inFlight.Store(nil) }

// Open loads the library where that is still to be done, and starts a session. An error is a
// *nvml.Problem; Open may then be tried again.
func (d *Driver) Open() error {
	if d.open {
		return nil
	}
	if err := d.load(); err != nil {
		return err
	}
	d.enter("nvmlInit_v2")
	ret := d.api.Init()
	d.leave()
	if ret != gonvml.SUCCESS {
		return problem("nvmlInit_v2", ret)
	}
	d.open = true
	if err := d.begin(); err != nil {
		d.Close()
		return err
	}
	return nil
}

// begin reads what stays the same for a session.
func (d *Driver) begin() error {
	d.enter("nvmlDeviceGetCount_v2")
	n, ret := d.api.DeviceGetCount()
	d.leave()
	if ret != gonvml.SUCCESS {
		return problem("nvmlDeviceGetCount_v2", ret)
	}
	d.cards = make([]*card, n)
	d.facts = nvml.Driver{}
	d.facts.Version, _ = ask(d, "nvmlSystemGetDriverVersion", d.api.SystemGetDriverVersion)
	d.facts.Library, _ = ask(d, "nvmlSystemGetNVMLVersion", d.api.SystemGetNVMLVersion)
	cuda, ret := ask(d, "nvmlSystemGetCudaDriverVersion_v2", d.api.SystemGetCudaDriverVersion_v2)
	if ret != gonvml.SUCCESS {
		cuda, ret = ask(d, "nvmlSystemGetCudaDriverVersion", d.api.SystemGetCudaDriverVersion)
	}
	if ret == gonvml.SUCCESS && cuda > 0 {
		d.facts.CUDA = fmt.Sprintf("%d.%d", cuda/1000, cuda%1000/10) // 12040 is 12.4
	}
	return nil
}

// Close ends the session; without one it does nothing. Wait must have returned.
func (d *Driver) Close() {
	d.Unwatch()
	if !d.open {
		return
	}
	d.open, d.cards = false, nil
	d.enter("nvmlShutdown")
	d.api.Shutdown()
	d.leave()
}

// load opens the library and looks up what nothing works without.
func (d *Driver) load() error {
	if d.library == nil {
		library := dl.New(d.o.Library, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		d.enter("dlopen " + filepath.Base(d.o.Library))
		err := library.Open()
		d.leave()
		if err != nil {
			return &nvml.Problem{Kind: nvml.ProblemNoLibrary, Code: int(gonvml.ERROR_LIBRARY_NOT_FOUND),
				Text: "no NVIDIA driver library can be loaded: " + err.Error()}
		}
		d.library = library
	}
	for _, names := range needed {
		if !slices.ContainsFunc(names, d.has) {
			return &nvml.Problem{Kind: nvml.ProblemOther, Code: int(gonvml.ERROR_FUNCTION_NOT_FOUND), Call: names[0],
				Text: fmt.Sprintf("%s is no NVML that this program can use: it has no %s", d.o.Library, names[0])}
		}
	}
	return nil
}

// problem makes a typed error of a return code, whose text is ours: the library need not be loaded.
func problem(name string, ret gonvml.Return) *nvml.Problem {
	p := &nvml.Problem{Kind: nvml.ProblemOther, Code: int(ret), Call: name}
	switch ret {
	case gonvml.ERROR_LIBRARY_NOT_FOUND:
		p.Kind, p.Text = nvml.ProblemNoLibrary, "no NVIDIA driver library can be loaded"
	case gonvml.ERROR_DRIVER_NOT_LOADED:
		p.Kind, p.Text = nvml.ProblemNoDriver, "the NVIDIA kernel module is not loaded"
	case gonvml.ERROR_LIB_RM_VERSION_MISMATCH:
		p.Kind, p.Text = nvml.ProblemMismatch, "the driver library is of another version than the loaded kernel module"
	case gonvml.ERROR_NO_PERMISSION:
		p.Kind, p.Text = nvml.ProblemNoPermission, "the driver refuses this process"
	case gonvml.ERROR_GPU_IS_LOST:
		p.Kind, p.Text = nvml.ProblemLost, "the GPU has fallen off the bus"
	case gonvml.ERROR_RESET_REQUIRED:
		p.Kind, p.Text = nvml.ProblemReset, "the GPU needs a reset"
	default:
		p.Text = fmt.Sprintf("%s failed with NVML's code %d", name, int(ret))
	}
	return p
}

// endsSession reports whether a code is about the driver as a whole, not about one GPU.
func endsSession(ret gonvml.Return) bool {
	return slices.Contains([]gonvml.Return{gonvml.ERROR_UNINITIALIZED, gonvml.ERROR_DRIVER_NOT_LOADED,
		gonvml.ERROR_LIB_RM_VERSION_MISMATCH}, ret)
}

var errNotOpen = errors.New("no session is open")
