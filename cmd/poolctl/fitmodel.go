package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// subjectOf finds the named model and the settings to check it with.
func subjectOf(model string, o fitOptions) (subject, error) {
	s := subject{pool: pool.Pool{Replicas: 1, Devices: [][]string{nil}}, cpu: o.cpu, mask: o.devices}
	path, isPath := modelPath(model)
	if !isPath {
		p, err := poolNamed(model, o)
		if err != nil {
			return subject{}, err
		}
		s.pool = p
		if len(o.devices) == 0 && !o.cpu {
			s.mask = p.Devices[0]
			s.cpu = len(s.mask) == 0
		}
		if p.Replicas > 1 {
			s.note = fmt.Sprintf("This is replica r0 of %d; the others need as much on their own devices.", p.Replicas)
		}
		if p.Model == "" {
			return s, s.override(o) // the need is the key vram, or unknown
		}
		if path, isPath = modelPath(string(p.Model)); !isPath {
			return subject{}, fmt.Errorf("pool %s has no model file: its model is %q", p.ID, p.Model)
		}
	}
	if err := s.stage(path); err != nil {
		return subject{}, err
	}
	return s, s.override(o)
}

// modelPath returns the path in an argument that has a slash, the scheme "file" or the suffix
// ".gguf".
func modelPath(model string) (path string, ok bool) {
	if rest, found := strings.CutPrefix(model, "file:"); found {
		return rest, true
	}
	remote := slices.Contains([]string{"hf", "https", "s3", "oci"}, pool.Model(model).Scheme()) &&
		strings.Contains(model, ":")
	return model, !remote && (strings.Contains(model, "/") || strings.HasSuffix(model, ".gguf"))
}

// stage takes the files as they are: nothing is verified.
func (s *subject) stage(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("could not read the model: %w", err)
	}
	s.staged = pool.Staged{Path: path, Files: []string{path}, SizeBytes: info.Size()}
	if s.pool.Engine == "" {
		s.pool.Engine = engine.Usual(info.IsDir())
	}
	return nil
}

// override replaces the pool's settings by those of the flags.
func (s *subject) override(o fitOptions) error {
	if o.engine != "" {
		s.pool.Engine = o.engine
	}
	if o.ctx > 0 {
		s.pool.Ctx = o.ctx
	}
	if o.slots > 0 {
		s.pool.Slots = o.slots
	}
	if o.kvType == "" {
		return nil
	}
	a, known := engine.For(s.pool.Engine)
	if !known || !slices.Contains(a.CacheTypes(), o.kvType) {
		return usage("engine %q has no KV cache of type %s", s.pool.Engine, o.kvType)
	}
	s.pool.Args = append(slices.Clone(s.pool.Args), a.CacheArgs(o.kvType)...) // the last of several flags wins
	return nil
}

// poolNamed reads the pool's file. The API does not report all of its settings, and the next start
// uses the file.
func poolNamed(id string, o fitOptions) (pool.Pool, error) {
	if err := validPool(id); err != nil {
		return pool.Pool{}, usage("%q is neither a path, which has a slash, nor a pool id", id)
	}
	read := hostconfig.Load(o.configFile, o.poolsDir)
	var ids []string
	for _, p := range read.Pools {
		if p.ID == id {
			return p, nil
		}
		ids = append(ids, p.ID)
	}
	for _, problem := range read.Problems {
		stem := strings.TrimSuffix(filepath.Base(problem.File), ".toml")
		if problem.PoolID == id || stem == id || filepath.Clean(problem.File) == filepath.Clean(o.poolsDir) {
			return pool.Pool{}, &exitError{code: exitFailed, text: problem.Error(), hint: problem.Hint, err: problem}
		}
	}
	hint := fmt.Sprintf("A path has a slash (./%s). poolctl check --pools-dir %s shows what is wrong with pool files.",
		id, o.poolsDir)
	if near := nearest(id, ids); near != "" {
		hint = fmt.Sprintf("Did you mean %s? ", near) + hint
	}
	return pool.Pool{}, &exitError{code: exitNoPool,
		text: fmt.Sprintf("no valid pool file in %s has the id %s", o.poolsDir, id), hint: hint}
}
