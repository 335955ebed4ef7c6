// Package keep remembers over restarts of the manager, and over reboots, what operators asked of pools beside the pool files: to drain
// one, or to serve another model than the file says.
//
// It owns the file and the form in which these wishes are written down. It must not know how a wish is carried out.
package keep

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Intent is everything that was asked of one pool. The zero value asks for nothing.
type Intent struct {
	Drain    *Drain    `json:"drain,omitempty"`
	Override *Override `json:"override,omitempty"`
}

// Empty reports whether nothing is asked.
func (i Intent) Empty() bool { return i.Drain == nil && i.Override == nil }

// Drain asks that a pool is emptied, stopped, and not started until it is resumed.
type Drain struct {
	Since    time.Time `json:"since"`
	Deadline Deadline  `json:"deadline"`
	By       string    `json:"by,omitempty"`      // who asked
	Restart  bool      `json:"restart,omitempty"` // it is resumed by itself once it has stopped
	Timeout  string    `json:"timeout,omitempty"` // what was still held at the deadline, in words; empty: nothing
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
