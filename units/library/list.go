package library

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// Artefact is a directory of the cache: all revisions and files of one repository, one file of a
// web server, or the images of a repository.
type Artefact struct {
	Directory string    // its name
	Name      string    // for people: "hf:org/name", or the directory's name
	Bytes     int64     // of whole files
	Partial   int64     // of files that are not whole, on disk
	Files     int       // whole ones; of images: entries of their layers
	Digest    string    // sha256:… of the only file; empty: of several, or not known
	Digests   []string  // sha256:… of every whole file that is kept by it, and of every image; sorted
	Used      time.Time // when a pool last staged it, or else when it was written; zero: not known
}

// repositoryPrefix begins the directory of a repository of the hub.
const repositoryPrefix = "models--"

// NameOf is what a directory of the cache is of, for people.
func NameOf(directory string) string {
	if repo, ok := strings.CutPrefix(directory, repositoryPrefix); ok {
		return "hf:" + strings.Replace(repo, "--", "/", 1)
	}
	return directory
}

// List returns what is in a cache, by name; of a cache that does not exist, nothing. uses is the
// directory of notes that Used writes; empty, or not readable: when something was written counts.
func List(cacheDir, uses string) ([]Artefact, error) {
	entries, err := os.ReadDir(cacheDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := make([]*Artefact, len(entries))
	errs := make([]error, len(entries))
	var group sync.WaitGroup
	next := make(chan int)
	for range listers {
		group.Go(func() {
			for i := range next {
				found[i], errs[i] = look(cacheDir, entries[i].Name(), uses)
			}
		})
	}
	for i, e := range entries {
		if e.IsDir() {
			next <- i
		}
	}
	close(next)
	group.Wait()
	all := make([]Artefact, 0, len(entries))
	for _, a := range found {
		if a != nil {
			all = append(all, *a)
		}
	}
	slices.SortFunc(all, func(a, b Artefact) int { return cmp.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

// listers is how many directories are read at once.
const listers = 8

// look reads the directory of one artefact; nil: it is another program's, or there is nothing in it
// because its download failed before the first byte.
func look(cacheDir, name, uses string) (*Artefact, error) {
	blobs, err := os.Open(filepath.Join(cacheDir, name, "blobs"))
	a := &Artefact{Directory: name, Name: NameOf(name)}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.countSnapshots(filepath.Join(cacheDir, name))
	case errors.Is(err, unix.ENOTDIR):
		return nil, nil
	case err != nil:
		return nil, err
	default:
		defer blobs.Close()
		if err := a.count(blobs); err != nil {
			return nil, err
		}
	}
	if strings.HasPrefix(name, imagePrefix) {
		a.countImages(filepath.Join(cacheDir, name))
	}
	if a.Files == 0 && a.Partial == 0 {
		return nil, nil
	}
	if uses != "" {
		if info, err := os.Stat(filepath.Join(uses, name)); err == nil {
			a.Used = info.ModTime()
		}
	}
	return a, nil
}

// count adds up the files of an artefact.
func (a *Artefact) count(blobs *os.File) error {
	names, err := blobs.Readdirnames(-1)
	if err != nil {
		return err
	}
	only := ""
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(blobs.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue // gone meanwhile, or no file
		}
		if written := time.Unix(st.Mtim.Unix()); written.After(a.Used) {
			a.Used = written
		}
		if strings.Contains(name, ".") {
			a.Partial += st.Blocks * 512 // one that is not whole has holes
			continue
		}
		a.Bytes += st.Size
		a.Files++
		only = name
		if hexDigits(name, 64) {
			a.Digests = append(a.Digests, "sha256:"+name)
		}
	}
	slices.Sort(a.Digests)
	if a.Files == 1 && hexDigits(only, 64) {
		a.Digest = "sha256:" + only
	}
	return nil
}

// countSnapshots adds up the files of an artefact that has them in its snapshots, as programs of
// the host's own may write it. It is one only where refs names a snapshot.
func (a *Artefact) countSnapshots(dir string) {
	if commitOf(dir, modelref.Ref{}) == "" {
		return
	}
	_ = walkSnapshots(dir, func(_ string, info fs.FileInfo) { // what can be read counts
		a.Files, a.Bytes = a.Files+1, a.Bytes+info.Size()
		if info.ModTime().After(a.Used) {
			a.Used = info.ModTime().Truncate(time.Second)
		}
	})
}

// walkSnapshots calls report for the files of an artefact that has them in its snapshots, by their
// paths below it; for so many at most.
func walkSnapshots(dir string, report func(name string, info fs.FileInfo)) error {
	files := 0
	return filepath.WalkDir(filepath.Join(dir, "snapshots"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || files == namesMost {
			return cmp.Or(err, fs.SkipAll)
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			return nil // gone meanwhile, or no file
		}
		files++
		name, err := filepath.Rel(dir, p)
		if err == nil {
			report(name, info)
		}
		return err
	})
}

// hexDigits reports whether a name is n hexadecimal digits.
func hexDigits(name string, n int) bool {
	return len(name) == n && strings.Trim(name, "0123456789abcdef") == ""
}
