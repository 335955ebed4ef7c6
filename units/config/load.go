package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// file is a pool file that was read.
type file struct {
	path     string
	doc      *strict.Document // nil where the file could not be read
	pool     *pool.Pool       // nil where the file has a problem
	problems []Problem
	id       string // the best guess
	claimed  bool   // the id is certain, whatever else is wrong
}

// LoadPools reads every pool file of a folder: names that end in ".toml" and do not begin with a
// dot, sorted. What editors and package managers leave behind does not match. A missing folder is
// a host without pools.
func LoadPools(dir string, h Host) Set {
	names, problem := poolFiles(dir)
	if problem != nil {
		return Set{Problems: []Problem{*problem}}
	}
	var s Set
	if names == nil {
		s.Notes = append(s.Notes, fmt.Sprintf("%s does not exist; this host has no pools", dir))
	}
	files := make([]*file, len(names))
	for i, name := range names {
		files[i] = readPool(filepath.Join(dir, name), h)
	}
	sameID(files)
	samePort(files)
	for _, f := range files {
		for _, p := range f.problems {
			p.PoolID = f.id
			s.Problems = append(s.Problems, p)
		}
		if f.pool != nil {
			s.Pools = append(s.Pools, *f.pool)
		}
	}
	s.Binaries = h.Policy.Binaries(s.Pools)
	for _, f := range files {
		if f.pool != nil {
			s.Denied = append(s.Denied, f.denials(h, s.Binaries)...)
		}
	}
	slices.SortFunc(s.Pools, func(a, b pool.Pool) int { return strings.Compare(a.ID, b.ID) })
	strict.Sort(s.Problems)
	strict.Sort(s.Denied)
	return s
}

// poolFiles lists a folder; nil names and no problem: there is none.
func poolFiles(dir string) ([]string, *Problem) {
	if strict.IsMissing(dir) {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, unreadableFolder(dir, err)
	}
	names := []string{}
	for _, e := range entries {
		if IsPoolFile(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// IsPoolFile reports whether the name in a folder of pool files is that of one.
func IsPoolFile(name string) bool {
	return strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".")
}

func unreadableFolder(dir string, err error) *Problem {
	hint := fmt.Sprintf("Inspect it with namei -l %s; it must be a directory.", dir)
	if errors.Is(err, fs.ErrPermission) {
		hint = fmt.Sprintf("pool-managerd is root without capabilities: run chown root %[1]s && chmod u+rx %[1]s.", dir)
	}
	return &Problem{File: dir, Message: "could not read the directory of pool files: " + strict.Cause(err), Hint: hint}
}

func readPool(path string, h Host) *file {
	data, problem := strict.ReadFile(path)
	if problem != nil {
		return &file{path: path, problems: []Problem{*problem}, id: stemID(path)}
	}
	return parse(path, data, h)
}

// ParsePool reads one pool file that is in memory already. The pool is nil where there is a
// problem.
func ParsePool(path string, data []byte, h Host) (*pool.Pool, []Problem) {
	f := parse(path, data, h)
	return f.pool, f.problems
}

func parse(path string, data []byte, h Host) *file {
	doc, problems := strict.Parse(path, data)
	if len(doc.Root.Entries()) == 0 && !doc.Broken {
		return &file{path: path, id: stemID(path),
			problems: []Problem{{File: path, Message: "the file is empty", Allowed: "a pool",
				Hint: fmt.Sprintf(`Write at least engine = %q, model = "file:/…" and devices = [0], or remove the file.`,
					engine.Kinds()[0])}}}
	}
	d := draft{Pool: h.Defaults, host: h.Provisioning}
	d.Source, d.Env, d.Args = path, maps.Clone(h.Defaults.Env), slices.Clone(h.Defaults.Args)
	d.Sandbox.Allow = slices.Clone(h.Defaults.Sandbox.Allow)
	problems = append(problems, schema().Decode(doc, &d, rules()...)...)
	if !d.named {
		d.ID = stemID(path)
		if d.ID == "" && !doc.Broken {
			problems = append(problems, Problem{File: path, Key: "id",
				Message: "the file's name cannot be the pool's id", Allowed: pool.IDRule,
				Hint: "Rename the file, or add a line: id = …"})
		}
	}
	f := &file{path: path, doc: doc, problems: problems, id: d.ID, claimed: d.ID != "" && !doc.Broken}
	if f.id == "" {
		f.id = stemID(path)
	}
	if len(problems) == 0 {
		p := d.Pool
		f.pool = &p
	}
	strict.Sort(f.problems)
	return f
}

// Locate returns a problem of a pool at the place in its file where a key is, or an item of its
// list ("args[2]").
func Locate(p pool.Pool, key, message, hint string) Problem {
	about := pool.Refusal{Key: key}
	problem := Problem{File: p.Source, Key: about.Base(), PoolID: p.ID, Message: message, Hint: hint}
	data, unread := strict.ReadFile(p.Source)
	if unread != nil {
		return problem
	}
	doc, _ := strict.Parse(p.Source, data)
	problem.Line, problem.Column = doc.PlaceOf(about.Base(), "engine") // which it has, if the key is of [defaults]
	list := doc.Find(strings.Split(about.Base(), ".")...)
	if at := about.Item(); list != nil && at >= 0 && at < len(list.Items) {
		problem.Line, problem.Column = doc.Place(list.Items[at].At)
	}
	return problem
}

func schema() strict.Schema[draft] {
	return strict.Schema[draft]{Keys: poolKeys(), Page: "pool-file(5)", Misplaced: map[string]string{
		"require_gpu": "It is a key of the host: write it in config.toml.",
		"port_range":  "It is a key of the host: write it in config.toml, or give this pool a port.",
		"policy":      "It is a key of the host: write it in config.toml.",
		"defaults":    "It is a key of the host: write it in config.toml.",
	}}
}

// stemID returns the id of a file's name, "" if it is not a valid one.
func stemID(path string) string {
	stem := strings.TrimSuffix(filepath.Base(path), ".toml")
	if !pool.ValidID(stem) {
		return ""
	}
	return stem
}

// reject adds a problem about a key that conflicts with other files; the file yields no pool.
func (f *file) reject(key, message, hint string) {
	line, column := f.doc.PlaceOf(key)
	f.problems = append(f.problems, Problem{File: f.path, Line: line, Column: column, Key: key, Message: message,
		Hint: hint})
	f.pool = nil
}

// sameID refuses every file whose id another file has too: which of them is meant is unknown, and
// the order of names must not decide it. A former version of the pool keeps running.
func sameID(files []*file) {
	byID := make(map[string][]*file)
	for _, f := range files {
		if f.claimed {
			byID[f.id] = append(byID[f.id], f)
		}
	}
	for _, f := range files {
		same := byID[f.id]
		if !f.claimed || len(same) < 2 {
			continue
		}
		f.reject("id", fmt.Sprintf("id %q is also that of %s", f.id, others(same, f)),
			"Give each file its own id; until then none of them is loaded.")
	}
}

// samePort refuses pools whose explicit ports overlap.
func samePort(files []*file) {
	var ported []*file
	for _, f := range files {
		if f.pool != nil && f.pool.Port > 0 {
			ported = append(ported, f)
		}
	}
	clashes := make([][]*file, len(ported))
	for i, a := range ported {
		for j, b := range ported {
			if i != j && a.pool.Port < b.pool.Port+b.pool.Replicas && b.pool.Port < a.pool.Port+a.pool.Replicas {
				clashes[i] = append(clashes[i], b)
			}
		}
	}
	for i, f := range ported {
		if len(clashes[i]) > 0 {
			f.reject("port", fmt.Sprintf("port %s overlaps the ports of %s", ports(f.pool), others(clashes[i], f)),
				"Give each pool its own ports, or leave port out; until then none of them is loaded.")
		}
	}
}

func ports(p *pool.Pool) string {
	if p.Replicas == 1 {
		return fmt.Sprint(p.Port)
	}
	return fmt.Sprintf("%d-%d", p.Port, p.Port+p.Replicas-1)
}

// others names the files of a list but one, at most three of them.
func others(files []*file, but *file) string {
	const most = 3
	var names []string
	for _, f := range files {
		if f != but {
			names = append(names, f.path)
		}
	}
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// LocateIn makes a problem with the place of a key of a file.
func LocateIn(file, key, message, hint string) Problem {
	problem := Problem{File: file, Key: key, Message: message, Hint: hint}
	if data, unread := strict.ReadFile(file); unread == nil {
		doc, _ := strict.Parse(file, data)
		problem.Line, problem.Column = doc.PlaceOf(key)
	}
	return problem
}
