package obtain

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/binaries"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
	"github.com/pool-managerd/pool-managerd/units/library"
)

// own returns the program of the host's own that fetches the model; nil: pool-fetch does.
func (f *flight) own() *egress.Program {
	if !f.want.Ref.Own() {
		return nil
	}
	p := f.settings.Programs[f.want.Ref.Scheme]
	return &p
}

func (f *flight) ownUnit() *fetchunit.Own {
	p := f.own()
	if p == nil {
		return nil
	}
	return &fetchunit.Own{Path: p.Path, Files: p.Files}
}

// key is the key of config.toml that names the program.
func (f *flight) key() string { return "programs." + f.want.Ref.Scheme }

// unusableProgram returns why the program is not executed; nil: it is.
func (f *flight) unusableProgram() *registry.Failure {
	p := f.own()
	if p == nil {
		return nil
	}
	if wrong, fix := binaries.Program(p.Path); wrong != "" {
		hint := fmt.Sprintf("Correct %s under [provisioning] in %s.", f.key(), egress.PolicyFile)
		if fix != "" {
			hint = "Run: " + fix
		}
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("the program %s, which fetches %s: models, "+
			"is not executed: %s", p.Path, f.want.Ref.Scheme, wrong), hint)
	}
	for _, file := range p.Files {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("%s, which the program %s reads, does not exist", file, p.Path),
				fmt.Sprintf("Mount or make it, or correct %s.files under [provisioning] in %s.", f.key(),
					egress.PolicyFile))
		}
	}
	if f.o.o.Refuse != nil {
		return f.o.o.Refuse(p.Path)
	}
	return nil
}

// patience measures how long a program prints no event.
type patience struct {
	bound time.Duration // 0: it is pool-fetch, which ends by itself
	since time.Time
}

func newPatience(p *egress.Program) *patience {
	if p == nil {
		return &patience{}
	}
	return &patience{p.Silence, time.Now()}
}

func (p *patience) heard(events int) {
	if events > 0 {
		p.since = time.Now()
	}
}

// over reports that the program was silent for too long, and begins again.
func (p *patience) over() bool {
	if p.bound == 0 || time.Since(p.since) < p.bound {
		return false
	}
	p.since = time.Now()
	return true
}

// silent is the outcome of a program that was stopped for its silence.
func (f *flight) silent() ended {
	p := f.own()
	return again("silent", fmt.Sprintf("the program %s printed no event for %s while it fetched %s, and was stopped",
		p.Path, p.Silence, f.want.Ref),
		fmt.Sprintf("Have it print a progress at least as often, or raise %s.silence under [provisioning] in %s; read "+
			"journalctl -u '%s'.", f.key(), egress.PolicyFile, fetchunit.Unit(f.id)))
}

// badLines are the lines of a run that were no events, for a message.
func badLines(n int, last error) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of its lines are no events, the last is %v", n, last)
}

// ownResult checks the result of a program of the host's own: what it says must be what the cache
// has of the model from now on. A digest that it names is not believed.
func (f *flight) ownResult(e wire.Event) ended {
	there := library.Find(f.settings.CacheDir, f.want.Ref)
	if there.Whole != library.Yes || there.Commit != e.Commit {
		return ended{reason: string(wire.BadAnswer), failure: registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("the program %s reports the model %s as snapshot %s, and the cache has %s",
				f.own().Path, f.want.Ref, e.Commit, cmp.Or(there.Commit, "none")),
			fmt.Sprintf("Have it write the commit into %s/refs/main of the request's cache_dir, after the files: see "+
				"Provisioners in the manual.", f.want.Ref.Directory()))}
	}
	snapshot := filepath.Join(f.settings.CacheDir, f.want.Ref.Directory(), "snapshots", there.Commit)
	if failure := contained(f.settings.CacheDir, f.want.Ref, snapshot); failure != nil {
		return ended{reason: string(wire.BadAnswer), failure: failure}
	}
	return ended{got: Got{Path: there.Path}, bytes: e.Bytes}
}
