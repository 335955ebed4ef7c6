package library

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// imagePrefix begins the directory of a repository of container images.
const imagePrefix = modelref.Image + "--"

// findImage returns an image that was unpacked. The file about it is written last.
func findImage(snapshot, commit string, ref modelref.Ref) Found {
	info, err := image.Read(snapshot)
	if err != nil || ref.Digest != "" && info.Digest != ref.Digest {
		return Found{Commit: commit}
	}
	return Found{Path: snapshot, Commit: commit, Whole: Yes}
}

// countImages adds up the unpacked images of a repository.
func (a *Artefact) countImages(dir string) {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil {
		return
	}
	images := 0
	for _, e := range entries {
		name := filepath.Join(dir, "snapshots", e.Name(), image.FileName)
		stat, err := os.Lstat(name)
		if err != nil || !stat.Mode().IsRegular() {
			continue
		}
		info, err := image.Read(filepath.Dir(name))
		if err != nil {
			continue
		}
		images++
		a.Bytes += info.Bytes
		a.Files += info.Entries
		a.Digest = info.Digest
		a.Digests = append(a.Digests, info.Digest)
		if ref, err := modelref.Parse(info.Ref); err == nil && ref.Directory() == a.Directory {
			a.Name = strings.Join([]string{modelref.Image, ref.Host + "/" + ref.Repo}, ":")
		}
		if written := stat.ModTime(); written.After(a.Used) {
			a.Used = written.Truncate(time.Second)
		}
	}
	slices.Sort(a.Digests)
	if images > 1 {
		a.Digest = ""
	}
}
