// Package programs finds what a program needs of the file system in order to start: the links that
// lead to it, the interpreter of a script, what a wrapper script executes, the dynamic loader, and
// the shared libraries as ld.so(8) searches them.
//
// It is a pure function of a file system. It reads files that may be hostile, so the number of
// files, lookups and bytes is bounded. What it cannot understand it leaves out: the kernel and the
// loader decide whether a program runs. A need is reported as missing only where they cannot find
// it either.
package programs

import (
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Bounds of one resolution. PyTorch with CUDA loads about 120 libraries, a wrapper script is short.
const (
	maxObjects  = 512       // executables and libraries that are read
	maxLookups  = 50_000    // paths that are looked up
	maxScript   = 64 << 10  // bytes of a script
	maxNesting  = 6         // programs that execute one another: BINPRM_MAX_RECURSION of Linux is 5
	maxFolders  = 256       // folders of one search path
	maxCacheLen = 16 << 20  // bytes of ld.so.cache
	maxElement  = 4096      // bytes of a path or a name in an ELF file: PATH_MAX
	maxValue    = 32 << 10  // bytes of a search path, in an ELF file or a variable
	maxDynamic  = 256 << 10 // bytes of the dynamic section
	maxSegments = 256       // program headers
	maxHops     = 40        // links that lead to one another: MAXSYMLINKS of path_resolution(7)
)

// Needs is what a program needs. Paths are absolute and clean.
type Needs struct {
	// Programs are the files that are executed and the links that lead to them: the program itself,
	// interpreters, and what wrapper scripts execute.
	Programs []string
	// Libraries are the dynamic loader, the shared libraries, and the links that lead to them.
	Libraries []string
	// Folders are what LD_LIBRARY_PATH, LD_PRELOAD, PYTHONPATH and PYTHONUSERBASE name and exists,
	// in the environment and in wrapper scripts.
	Folders []string
	// Certain are those of Programs and Libraries that are needed for certain. The others follow
	// from commands that a script may not come to.
	Certain []string
	Missing []Missing
	// Env is the environment with what the scripts on the way set, as far as it is known.
	Env map[string]string
	// Machine is what the first executable in ELF is built for; EM_NONE: unknown.
	Machine elf.Machine
}

// Executed are the programs that are executed for certain, and the links that lead to them.
func (n Needs) Executed() []string {
	return slices.DeleteFunc(slices.Clone(n.Programs), func(p string) bool { return !slices.Contains(n.Certain, p) })
}

// Missing is a need that was not found.
type Missing struct {
	Kind     Kind
	Name     string   // as the file that needs it names it
	By       string   // the file that needs it
	Searched []string // where it was searched; empty if Name is a path
	// Closed is a file that was found, and which the engine's user may not read or execute.
	Closed string
}

// Kind is what is missing.
type Kind int

// Kinds of needs.
const (
	Library     Kind = iota
	Loader           // PT_INTERP of an ELF file
	Interpreter      // of a script
	Program          // what a wrapper script executes
)

// DefaultPath is the PATH that systemd gives to services (systemd.exec(5), "Environment
// Variables").
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"

// Resolve returns what the program at a path needs under an environment.
func Resolve(fsys fs.ReadLinkFS, program string, env map[string]string) Needs {
	r := &resolver{tree: newTree(fsys), env: maps.Clone(env), seen: make(map[string]bool)}
	if r.env == nil {
		r.env = make(map[string]string)
	}
	if r.env["PATH"] == "" {
		r.env["PATH"] = DefaultPath
	}
	r.program(path.Clean(program), 0)
	r.folders()
	r.needs.Env = r.env
	return r.needs
}

// resolver is the state of one resolution.
type resolver struct {
	*tree
	env     map[string]string // of the program, as wrapper scripts change it
	seen    map[string]bool   // programs that were resolved, by path
	objects int               // ELF files that were read
	guesses int               // more than 0: what is found now may not be needed
	cache   *loaderCache      // read at the first need
	needs   Needs
}

func (r *resolver) show(list *[]string, paths ...string) {
	for _, p := range paths {
		if !slices.Contains(*list, p) {
			*list = append(*list, p)
		}
		if r.guesses == 0 && !slices.Contains(r.needs.Certain, p) {
			r.needs.Certain = append(r.needs.Certain, p)
		}
	}
}

// program resolves one file that is executed.
func (r *resolver) program(at string, depth int) {
	if depth > maxNesting || r.seen[at] {
		return
	}
	r.seen[at] = true
	real, err := r.real(at)
	if err != nil {
		return
	}
	r.show(&r.needs.Programs, r.chain(at)...)
	head, err := r.read(real, shebangLen)
	if err != nil {
		return
	}
	if line, script := strings.CutPrefix(string(head), "#!"); script {
		r.script(at, line, depth)
		return
	}
	r.executable(at, real)
}

// executable resolves an ELF file that is executed.
func (r *resolver) executable(at, real string) {
	o, err := r.object(real)
	if err != nil {
		return
	}
	if r.needs.Machine == elf.EM_NONE {
		r.needs.Machine = o.machine
	}
	s := search{resolver: r, main: o, certain: true}
	s.loader(at, o)
	s.all(&loaded{object: o, path: real})
}

// folders adds what the environment names of folders and files.
func (r *resolver) folders() {
	for _, name := range []string{"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONUSERBASE"} {
		for _, p := range split(r.env[name], ":; ") {
			p = path.Clean(p)
			if path.IsAbs(p) && r.exists(p) {
				r.show(&r.needs.Folders, p)
			}
		}
	}
}

// split returns the elements of a search path, bounded.
func split(list, separators string) []string {
	all := strings.FieldsFunc(list, func(c rune) bool { return strings.ContainsRune(separators, c) })
	return all[:min(len(all), maxFolders)]
}

// read returns up to n bytes from the beginning of a file, given by its real path.
func (t *tree) read(real string, n int64) ([]byte, error) {
	f, info, err := t.open(real)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, min(n, info.Size())))
}

// object reads an ELF file.
func (r *resolver) object(real string) (object, error) {
	if r.objects >= maxObjects {
		return object{}, errTooMany
	}
	r.objects++
	f, info, err := r.open(real)
	if err != nil {
		return object{}, err
	}
	defer f.Close()
	at, ok := f.(io.ReaderAt)
	if !ok {
		return object{}, errNotELF
	}
	return parseELF(at, info.Size())
}

var (
	errTooMany = errors.New("too many files")
	errNotELF  = errors.New("not an ELF file")
)
