// Package keep stores over restarts of the manager, and over reboots, what is not in the pool
// files: what operators asked of pools (to drain one, to serve another model), which version of a
// pool served last, and how far a reload has come.
//
// It owns the file and the form of its entries. It must not know how a request is carried out.
package keep

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// Intent is everything that was asked of one pool. The zero value asks for nothing.
type Intent struct {
	Drain    *Drain    `json:"drain,omitempty"`
	Override *Override `json:"override,omitempty"`

	// Current is the version that served last: a failed reload rolls back to it. Reload is one
	// under way, and ReloadUntil the deadline of its present drain. Rejected is the version that
	// was tried last and rolled back.
	Current     *pool.Pool      `json:"current,omitempty"`
	Reload      *rollout.Record `json:"reload,omitempty"`
	ReloadUntil Deadline        `json:"reload_until,omitzero"`
	Rejected    *Rejected       `json:"rejected,omitempty"`

	// Preload is why the pool exists at all, where no file asks for it.
	Preload *Preload `json:"preload,omitempty"`
}

// Preload is a pool that another program asked for. It ends with the boot in which it was asked
// for, as its engine does.
type Preload struct {
	Ask   pool.Preload `json:"ask"`
	Boot  string       `json:"boot"`
	Since time.Time    `json:"since"`
	By    string       `json:"by,omitempty"`
	// Until is when it is given up, unless it was ready before.
	Until Deadline `json:"until,omitzero"`
	// Correlation is the id of the request, here and in the other requests.
	Correlation string `json:"correlation_id,omitempty"`
	Ready       bool   `json:"ready,omitempty"` // it was, so that a later failure is one as of any pool
}

// Rejected is a version that failed. It is not tried again until the pool's file changes or an
// operator asks for it.
type Rejected struct {
	Version pool.Pool         `json:"version"`
	ByFile  bool              `json:"by_file,omitempty"` // the pool's file asked for it; else an operator did
	Reason  rollout.Reason    `json:"reason"`
	Failure *registry.Failure `json:"failure"`
	At      time.Time         `json:"at"`
}

// Empty reports whether nothing is asked.
func (i Intent) Empty() bool {
	return i.Drain == nil && i.Override == nil && i.Current == nil && i.Reload == nil && i.Rejected == nil &&
		i.Preload == nil
}

// Drain asks that a pool is emptied, stopped, and not started until it is resumed.
type Drain struct {
	Since    time.Time `json:"since"`
	Deadline Deadline  `json:"deadline"`
	By       string    `json:"by,omitempty"`      // who asked
	Restart  bool      `json:"restart,omitempty"` // it is resumed by itself once it has stopped
	Timeout  string    `json:"timeout,omitempty"` // what was still held at the deadline, in words; empty: nothing
	// UntilRestart ends the drain when another manager starts: what empties a host, such as the
	// removal of the package, asks for nothing beyond that.
	UntilRestart bool   `json:"until_restart,omitempty"`
	Correlation  string `json:"correlation_id,omitempty"`
}

// AtStart returns what is left of the intent when a manager starts, in the boot of that name. With
// a preload of an earlier boot, all that was asked of its pool ends.
func (i Intent) AtStart(boot string) Intent {
	if i.Preload != nil && i.Preload.Boot != boot {
		return Intent{}
	}
	if i.Drain != nil && i.Drain.UntilRestart {
		i.Drain = nil
	}
	return i
}

// Override asks that a pool serves another model than its file says.
type Override struct {
	Model  pool.Model `json:"model"`
	Digest string     `json:"digest,omitempty"`
	Since  time.Time  `json:"since"`
	By     string     `json:"by,omitempty"`
}

// Over returns the pool as it is to run: the file's version with the override's model and digest.
func (o *Override) Over(p pool.Pool) pool.Pool {
	if o == nil {
		return p
	}
	p.Model, p.ModelDigest = o.Model, o.Digest
	return p
}
