// Package driver reads GPUs through NVIDIA's library, and is the only importer of go-nvml. It
// implements serve.Library.
//
// go-nvml binds the library's functions when they are first called: a call to one that the library
// lacks ends the process, and so does every call before the library is loaded. So this package
// opens the library first and looks up each function before its first call; missing functions are
// listed in nvml.Driver.Missing. Error texts do not come from the library, since nvmlErrorString is
// such a call too.
//
// One goroutine calls Open, Sample, Watch, Unwatch and Close; Wait may run concurrently with Sample
// only. The package does not decide what a fault means, how often to sample or when to retry.
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

// DefaultLibrary is the name that the dynamic loader searches for.
const DefaultLibrary = "libnvidia-ml.so.1"

// Options of New. The zero value suits a real host.
type Options struct {
	Library string     // path or name of the library; empty: DefaultLibrary
	Proc    string     // empty: /proc
	Tree    owner.Tree // where the units of processes are found
}

// Driver is the process's only access to NVML.
type Driver struct {
	o       Options
	api     gonvml.Interface
	library *dl.DynamicLibrary // nil: not loaded yet. Never closed, since functions stay bound to it.
	open    bool               // Init succeeded, and Shutdown was not called since
	missing map[string]bool    // functions that were needed and do not exist
	known   map[string]bool    // functions that were looked up, and whether they exist

	cards  []*card // of this session, by index; nil: not read yet
	facts  nvml.Driver
	minors minors  // of MIG capability nodes, read with each sample
	seen   *roster // identities over all sessions of this process

	set      gonvml.EventSet // nil: not watching
	watched  map[gonvml.Device]string
	inFlight atomic.Pointer[call]
}

type call struct {
	name  string
	since time.Time
}

// New returns a Driver that has not loaded the library yet.
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

// Call returns the NVML call that is running and its start; an empty name: none. EventSetWait,
// which blocks by design, is not reported. Call is safe for concurrent use.
func (d *Driver) Call() (name string, since time.Time) {
	if c := d.inFlight.Load(); c != nil {
		return c.name, c.since
	}
	return "", time.Time{}
}

// enter records the start of a call, leave its end.
func (d *Driver) enter(name string) { d.inFlight.Store(&call{name, time.Now()}) }
func (d *Driver) leave()            { d.inFlight.Store(nil) }

// Open loads the library if necessary and starts a session. An error is a *nvml.Problem; Open may
// then be called again.
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

// begin reads what does not change within a session.
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

// Close ends the session, if there is one. Wait must have returned.
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

// load opens the library and looks up the functions that are always needed.
func (d *Driver) load() error {
	if d.library == nil {
		library := dl.New(d.o.Library, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		d.enter("dlopen " + filepath.Base(d.o.Library))
		err := library.Open()
		d.leave()
		if err != nil {
			return &nvml.Problem{Kind: nvml.ProblemNoLibrary, Code: int(gonvml.ERROR_LIBRARY_NOT_FOUND),
				Text: "could not load an NVIDIA driver library: " + err.Error()}
		}
		d.library = library
	}
	for _, names := range needed {
		if !slices.ContainsFunc(names, d.has) {
			return &nvml.Problem{Kind: nvml.ProblemOther, Code: int(gonvml.ERROR_FUNCTION_NOT_FOUND), Call: names[0],
				Text: fmt.Sprintf("%s is not a usable NVML library: it has no %s", d.o.Library, names[0])}
		}
	}
	return nil
}

// problem returns the typed error of a return code. Its text does not come from the library, which
// may not be loaded.
func problem(name string, ret gonvml.Return) *nvml.Problem {
	p := &nvml.Problem{Kind: nvml.ProblemOther, Code: int(ret), Call: name}
	switch ret {
	case gonvml.ERROR_LIBRARY_NOT_FOUND:
		p.Kind, p.Text = nvml.ProblemNoLibrary, "could not load an NVIDIA driver library"
	case gonvml.ERROR_DRIVER_NOT_LOADED:
		p.Kind, p.Text = nvml.ProblemNoDriver, "the NVIDIA kernel module is not loaded"
	case gonvml.ERROR_LIB_RM_VERSION_MISMATCH:
		p.Kind, p.Text = nvml.ProblemMismatch, "the driver library and the loaded kernel module have different versions"
	case gonvml.ERROR_NO_PERMISSION:
		p.Kind, p.Text = nvml.ProblemNoPermission, "the driver denies access to this process"
	case gonvml.ERROR_GPU_IS_LOST:
		p.Kind, p.Text = nvml.ProblemLost, "the GPU has fallen off the bus"
	case gonvml.ERROR_RESET_REQUIRED:
		p.Kind, p.Text = nvml.ProblemReset, "the GPU needs a reset"
	default:
		p.Text = fmt.Sprintf("%s failed with NVML code %d", name, int(ret))
	}
	return p
}

// endsSession reports whether a code is about the driver as a whole, not about one GPU.
func endsSession(ret gonvml.Return) bool {
	return slices.Contains([]gonvml.Return{gonvml.ERROR_UNINITIALIZED, gonvml.ERROR_DRIVER_NOT_LOADED,
		gonvml.ERROR_LIB_RM_VERSION_MISMATCH}, ret)
}

var errNotOpen = errors.New("no session is open")
