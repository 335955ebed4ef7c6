package programs

import (
	"debug/elf"
	"path"
	"slices"
	"strings"
)

// search finds the libraries of one executable, in the order of ld.so(8).
type search struct {
	*resolver
	main     object
	defaults []string // folders that the loader searches last
	cached   bool     // the loader reads the system's ld.so.cache
	certain  bool     // what is not found here, the loader does not find either
}

// loaded is a library, or the executable itself, with what loaded it.
type loaded struct {
	object
	path string // of which $ORIGIN is the folder
	by   *loaded
}

// systemLibraries are the folders of the packages of a distribution, each of which sees to its own
// needs.
var systemLibraries = []string{"/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64"}

// loader shows the dynamic loader of an executable, and sets where that searches by itself. Another
// one than glibc's of the system has other folders and a cache of its own, so that a library that
// was not found proves nothing.
func (s *search) loader(by string, o object) {
	if o.interp == "" {
		s.certain = false // static, or the loader itself
		return
	}
	real, err := s.real(path.Clean(o.interp))
	if err != nil {
		s.certain = false
		s.missing(Missing{Kind: Loader, Name: o.interp, By: by})
		return
	}
	s.show(&s.needs.Libraries, s.chain(path.Clean(o.interp))...)
	s.certain = strings.HasPrefix(path.Base(real), "ld-linux") && within(real, systemLibraries)
	s.cached = s.certain
	if !s.certain {
		s.defaults = append(s.defaults, path.Dir(real), path.Join(path.Dir(real), "../lib"))
	}
	if of := multiarch(o.machine); of != "" {
		s.defaults = append(s.defaults, "/lib/"+of, "/usr/lib/"+of)
	}
	s.defaults = append(s.defaults, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
}

// multiarch is how Debian calls an architecture in the names of its folders.
func multiarch(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64-linux-gnu"
	case elf.EM_AARCH64:
		return "aarch64-linux-gnu"
	}
	return ""
}

// all finds the libraries that an executable needs, those that they need, and so on.
func (s *search) all(main *loaded) {
	seen := make(map[string]bool)
	for queue := []*loaded{main}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, name := range at.needed {
			if seen[name] || name == "" {
				continue
			}
			seen[name] = true
			lib := s.library(at, name)
			if lib == nil {
				continue
			}
			seen[lib.soname] = true
			s.show(&s.needs.Libraries, s.chain(lib.path)...)
			real, err := s.real(lib.path)
			if err == nil && within(real, systemLibraries) && within(lib.path, s.defaults) {
				continue
			}
			queue = append(queue, lib)
		}
	}
}

// library finds one library that at needs; nil: it is missing, which is noted.
func (s *search) library(at *loaded, name string) *loaded {
	if strings.Contains(name, "/") {
		p := path.Clean(s.expand(name, at))
		if !path.IsAbs(p) {
			return nil // relative to the working directory, which is not known
		}
		lib, closed := s.try(p)
		if lib == nil {
			s.missing(Missing{Name: name, By: at.path, Closed: closed})
			return nil
		}
		lib.by = at
		return lib
	}
	folders := s.folders(at)
	miss := Missing{Name: name, By: at.path, Searched: slices.Clone(folders)}
	candidates := make([]string, 0, len(folders))
	for _, dir := range folders {
		candidates = append(candidates, path.Join(dir, name))
	}
	if s.cached {
		candidates = append(candidates, s.fromCache(name)...)
	}
	for _, dir := range s.defaults {
		candidates = append(candidates, path.Join(dir, name))
	}
	for _, dir := range slices.Concat(folders, s.defaults) {
		for _, level := range []string{"x86-64-v4", "x86-64-v3", "x86-64-v2"} {
			candidates = append(candidates, path.Join(dir, "glibc-hwcaps", level, name))
		}
	}
	for _, p := range candidates {
		lib, closed := s.try(p)
		if lib != nil {
			lib.by = at
			return lib
		}
		if miss.Closed == "" {
			miss.Closed = closed
		}
	}
	if s.certain && !s.exhausted() && s.objects < maxObjects {
		s.missing(miss)
	}
	return nil
}

// try reads a candidate; closed is its path if it is one that the engine's user cannot read.
func (s *search) try(p string) (lib *loaded, closed string) {
	is, open := s.file(p, 0o004)
	if !is {
		return nil, ""
	}
	if !open {
		return nil, p
	}
	real, err := s.real(p)
	if err != nil {
		return nil, ""
	}
	o, err := s.object(real)
	if err != nil || !o.compatible(s.main) {
		return nil, ""
	}
	return &loaded{object: o, path: p}, ""
}

// folders returns the folders that are searched for a library that at needs, before the system's.
func (s *search) folders(at *loaded) (dirs []string) {
	add := func(list []string, of *loaded) {
		for _, dir := range list {
			dir = path.Clean(s.expand(dir, of))
			if path.IsAbs(dir) && !slices.Contains(dirs, dir) && len(dirs) < maxFolders {
				dirs = append(dirs, dir)
			}
		}
	}
	if len(at.runpath) == 0 {
		for of := at; of != nil; of = of.by {
			add(of.rpath, of)
		}
	}
	add(split(s.env["LD_LIBRARY_PATH"], ":;"), nil)
	add(at.runpath, at)
	return dirs
}

// expand replaces the tokens of ld.so(8). A folder with one whose value is not known is left as it
// is, and not found.
func (s *search) expand(dir string, of *loaded) string {
	if !strings.Contains(dir, "$") {
		return dir
	}
	if of != nil {
		origin := path.Dir(of.path)
		dir = strings.NewReplacer("${ORIGIN}", origin, "$ORIGIN", origin).Replace(dir)
	}
	lib := "lib64"
	if s.exists("/etc/debian_version") {
		lib = "lib/" + multiarch(s.main.machine)
	}
	dir = strings.NewReplacer("${LIB}", lib, "$LIB", lib).Replace(dir)
	if strings.Contains(dir, "$") {
		s.certain = false
	}
	return dir
}

// fromCache returns the files of a name in ld.so.cache. Without a cache nothing is certain.
func (s *search) fromCache(name string) []string {
	if s.cache == nil {
		var raw []byte
		if real, err := s.real(cachePath); err == nil {
			raw, _ = s.read(real, maxCacheLen) // on an error it is in no known format
		}
		if s.cache = parseCache(raw, s.main.order); s.cache == nil {
			s.cached, s.certain = false, false
			return nil
		}
	}
	return s.cache.paths(name)
}

func (r *resolver) missing(m Missing) {
	const most = 64
	if len(r.needs.Missing) < most && r.guesses == 0 {
		r.needs.Missing = append(r.needs.Missing, m)
	}
}

// within reports whether a path is in one of the folders.
func within(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(p, dir+"/") })
}
