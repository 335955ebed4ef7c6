package hostconfig

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/cdi"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Check returns every problem of the configuration, and every pool that the host's policy forbids,
// for --check. Files are read with the rights of the manager: root without
// capabilities. formerFile is the manager's record of what was there before; a caller who may not
// read it learns nothing of what is gone.
func Check(configFile, poolsDir, formerFile string) []Problem {
	return check(configFile, poolsDir, formerFile, false).Problems
}

// Report is the result of a check. Warnings are models and programs that are not there, for which
// a pool waits: the check may be made on another host than the pool's, or before they are
// installed.
type Report struct {
	Problems []Problem
	Warnings []Problem
}

// CheckFiles is Check for poolctl check, with every file beside a model that an engine could not
// read, or not write to, every model and image that is not in the cache and that the host does not
// permit to download, every GPU that an image would not get, and every program of config.toml that
// would not be executed. A reload of the manager does not fail for these: a file may be copied
// later, like a model.
func CheckFiles(configFile, poolsDir, formerFile string) Report {
	return check(configFile, poolsDir, formerFile, true)
}

func check(configFile, poolsDir, formerFile string, files bool) (r Report) {
	former, err := ReadFormer(formerFile)
	if err != nil {
		former = Former{}
	}
	var c Config
	var unusable []Problem
	withoutCapabilities(func() {
		c, _ = former.Load(configFile, poolsDir, nil)
		if files {
			unusable = slices.Concat(unusableFiles(c.Pools), refusedDownloads(c), missingDrivers(c, cdi.Dirs()),
				unusablePrograms(configFile, c))
			r.Warnings = awaited(c.Pools)
		}
	})
	r.Problems = slices.Concat(c.Problems, c.Denied, unusable)
	if os.Geteuid() != 0 {
		r.Problems = append(r.Problems, unreadableForRoot(configFile, poolsDir, r.Problems)...)
	}
	return r
}

// unusableFiles returns a problem for each file beside a model that an engine could not read. What
// the manager as root may see and another user does not is no problem for that user's check.
func unusableFiles(pools []pool.Pool) []Problem {
	var problems []Problem
	for _, p := range pools {
		for _, f := range bring.Check(p) {
			if !f.Closed || os.Geteuid() == 0 {
				problems = append(problems, config.Locate(p, f.Key, f.Message, f.Hint))
			}
		}
	}
	return problems
}

// withoutCapabilities runs f as a process without capabilities would run it: a file that root reads
// only because no mode stops it cannot be read then. Capabilities belong to a thread, which ends
// with this call.
func withoutCapabilities(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread is not used again
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if unix.Capget(&header, &data[0]) == nil {
			data[0].Effective, data[1].Effective = 0, 0
			_ = unix.Capset(&header, &data[0]) // giving up rights is always allowed
		}
		f()
	}()
	<-done
}

// unreadableForRoot returns a problem for each file that this user can read and the manager cannot:
// its owner's mode bits are not root's. Files that have a problem already are left out.
func unreadableForRoot(configFile, poolsDir string, known []Problem) []Problem {
	has := make(map[string]bool)
	for _, p := range known {
		has[p.File] = true
	}
	files := []string{configFile}
	if entries, err := os.ReadDir(poolsDir); err == nil {
		for _, e := range entries {
			if config.IsPoolFile(e.Name()) {
				files = append(files, filepath.Join(poolsDir, e.Name()))
			}
		}
	}
	var problems []Problem
	for _, file := range files {
		if at := closedToRoot(file); at != "" && !has[file] {
			problems = append(problems, Problem{File: file, Message: "pool-managerd cannot read it: permission denied",
				Hint: fmt.Sprintf("It is root without capabilities: run chown root %[1]s && chmod u+rX %[1]s.", at)})
		}
	}
	return problems
}

// closedToRoot returns the file, or the directory above it, whose mode keeps root without
// capabilities out; "": none does, or it does not exist.
func closedToRoot(file string) string {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return ""
	}
	const read, search = 4, 1
	needed := uint32(read)
	for at := real; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return ""
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && rootsBits(st)&needed == 0 {
			return at
		}
		if at == filepath.Dir(at) {
			return ""
		}
		needed = search
	}
}

// rootsBits are the three mode bits that count for root without capabilities.
func rootsBits(st *syscall.Stat_t) uint32 {
	switch {
	case st.Uid == 0:
		return st.Mode >> 6 & 7
	case st.Gid == 0:
		return st.Mode >> 3 & 7
	}
	return st.Mode & 7
}
