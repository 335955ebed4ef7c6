package obtain

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/aside"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// remembered is a download that an operator asked for, as it is kept.
type remembered struct {
	Model  string `json:"model"`
	Digest string `json:"model_digest,omitempty"`
	By     string `json:"by"`
	// Request is the correlation id of what the operator sent.
	Request string `json:"correlation_id,omitempty"`
}

// remember writes down what operators asked for and has not ended, with one that begins; nil: none
// does. The caller holds the lock. The error is a *registry.Failure.
func (p *Pulls) remember(begins *pull) error {
	var keep []remembered
	add := func(one *pull) {
		if one.by != "" && !one.state.Ended() {
			keep = append(keep, remembered{one.want.Ref.String(), one.want.Digest, one.by, one.request})
		}
	}
	for _, one := range p.all {
		if begins == nil || one.id != begins.id {
			add(one)
		}
	}
	if begins != nil {
		add(begins)
	}
	if len(keep) > pullsMost {
		return registry.Fail(registry.CodeInvalidParams, fmt.Sprintf("%d downloads are under way already", pullsMost),
			"Wait until one has ended, or cancel one.")
	}
	slices.SortFunc(keep, func(a, b remembered) int { return strings.Compare(a.Model, b.Model) })
	if err := write(p.opt.File, keep); err != nil {
		return registry.Fail(registry.CodeStateNotSaved, fmt.Sprintf("could not write %s: %v", p.opt.File, cause(err)),
			"Free space on its file system, and ask again.")
	}
	return nil
}

// write replaces the file; without anything to keep there is none.
func write(name string, keep []remembered) error {
	if len(keep) == 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.MarshalIndent(keep, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(name, append(text, '\n'), 0o600)
}

// recall begins what was asked for before the manager started. A damaged file is set aside.
func (p *Pulls) recall() {
	text, err := os.ReadFile(p.opt.File)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var kept []remembered
	if err == nil {
		err = json.Unmarshal(text, &kept)
	}
	if err != nil {
		to := ""
		if !aside.Refused(err) {
			to, _ = aside.Move(p.opt.File, time.Now()) // "" then, and it is overwritten
		}
		p.opt.Log.Warn("the downloads that were asked for cannot be read; ask for them again", "file", p.opt.File,
			"err", err, "moved_to", to)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range kept[:min(len(kept), pullsMost)] {
		ref, err := modelref.Parse(k.Model)
		if err != nil || !ref.Remote() || k.By == "" {
			p.opt.Log.Warn("a download that was asked for is no reference", "model_id", k.Model)
			continue
		}
		w := Want{Ref: ref, Digest: k.Digest}
		one := p.all[id(w)]
		if one == nil {
			one = p.make(w, nil)
		}
		one.by, one.request = k.By, k.Request
		p.start(one)
	}
}
