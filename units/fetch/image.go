package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/fetch/unpack"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// imageSource is a container image of a registry. Its layers are downloaded as files are, and then
// unpacked beside where it is to be: an image is there whole, or not at all.
type imageSource struct {
	*registry
	info   image.Info
	config *file
	diffs  []string // digests of the layers' archives, the lowest first
	layers []*file
}

func newImage(f *fetcher) (*imageSource, error) {
	r, err := newRegistry(f)
	if err != nil {
		return nil, err
	}
	return &imageSource{registry: r}, nil
}

// Media types of images. The others of OCI's and Docker's are those of artifacts.
const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	dockerImage  = "application/vnd.docker.container.image.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
	mostLayers   = 512
	imageListing = ".layers" // behind the snapshot's name: links to the layers while it is not unpacked
	imageNew     = ".new"    // and where it is unpacked
)

// manifestTypes are those that are accepted.
const manifestTypes = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"

func (s *imageSource) plan(ctx context.Context) (p plan, err error) {
	by := s.ref.Digest
	if by == "" {
		by = s.ref.Branch()
		p.revision = by
	}
	data, digest, err := s.manifest(ctx, by, manifestTypes)
	if err != nil {
		return p, err
	}
	s.info = image.Info{Ref: s.ref.String(), Digest: digest, Architecture: runtime.GOARCH}
	p.commit = modelref.CommitOf(digest)
	p.links = p.commit + imageListing
	m, err := s.platform(ctx, data)
	if err != nil {
		return p, err
	}
	if s.unpacked(p.commit) {
		return p, nil
	}
	if err := s.listLayers(m); err != nil {
		return p, err
	}
	p.files = append(slices.Clone(s.layers), s.config)
	p.files = slices.CompactFunc(slices.SortedFunc(slices.Values(p.files), func(a, b *file) int {
		return strings.Compare(a.blob, b.blob)
	}), func(a, b *file) bool { return a.blob == b.blob }) // an empty layer may be there many times
	return p, nil
}

// unpacked reports whether the image is there already.
func (s *imageSource) unpacked(commit string) bool {
	info, err := s.cache.root.Stat(path.Join("snapshots", commit, image.FileName))
	return err == nil && info.Mode().IsRegular()
}

// platform returns the manifest for this host: the one that was sent, or the one of a list.
func (s *imageSource) platform(ctx context.Context, data []byte) (m artifactManifest, err error) {
	for range 2 {
		m = artifactManifest{}
		if err := json.Unmarshal(data, &m); err != nil {
			return m, badAnswer(s.repo.RegistryStr(), "sent no manifest")
		}
		if len(m.Manifests) == 0 {
			return m, nil
		}
		var there []string
		found := ""
		for _, l := range m.Manifests {
			name := l.Platform.OS + "/" + l.Platform.Architecture
			if l.Platform.OS == "linux" && l.Platform.Architecture == runtime.GOARCH && found == "" {
				found = l.Digest
			} else if l.Platform.OS != "" && l.Platform.OS != "unknown" && !slices.Contains(there, name) {
				there = append(there, name)
			}
		}
		if found == "" {
			return m, &Failure{Reason: wire.NotFound,
				Message: fmt.Sprintf("%s is not there for linux/%s, but for %s", s.ref, runtime.GOARCH,
					wire.Text(strings.Join(there, ", "), 200)),
				Hint: "Name an image that is made for this host's processor."}
		}
		if !isDigest(found) {
			break
		}
		if data, _, err = s.manifest(ctx, found, manifestTypes); err != nil {
			return m, err
		}
	}
	return m, badAnswer(s.repo.RegistryStr(), "sent a list of images that leads to no image")
}

func isDigest(s string) bool {
	hex, found := strings.CutPrefix(s, "sha256:")
	return found && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

// listLayers takes the layers and the configuration of a manifest.
func (s *imageSource) listLayers(m artifactManifest) error {
	if m.Config.MediaType != ociConfig && m.Config.MediaType != dockerImage {
		return &Failure{Reason: wire.BadRequest,
			Message: fmt.Sprintf("%s is no container image: its type is %.80q", s.ref,
				wire.Text(m.Config.MediaType, 80)),
			Hint: "Name an image; a model in a registry is a model of the pool file."}
	}
	s.config = m.Config.named("config.json")
	for i, l := range m.Layers {
		if !strings.HasPrefix(l.MediaType, ociLayer) && !strings.HasPrefix(l.MediaType, dockerLayer) {
			return &Failure{Reason: wire.BadImage,
				Message: fmt.Sprintf("%s has a layer of the unknown type %.80q", s.ref, wire.Text(l.MediaType, 80)),
				Hint:    "Layers are tar archives, plain or compressed with gzip or zstd."}
		}
		s.layers = append(s.layers, l.named(fmt.Sprintf("layer-%03d.tar", i+1)))
	}
	for _, f := range append(slices.Clone(s.layers), s.config) {
		if !isDigest("sha256:"+f.blob) || !f.plausible() || len(s.layers) > mostLayers || len(s.layers) == 0 {
			return badAnswer(s.repo.RegistryStr(), "sent a manifest with layers that cannot be")
		}
	}
	if s.config.size > maxJSON {
		return badAnswer(s.repo.RegistryStr(), "sent a configuration of more than %d bytes", maxJSON)
	}
	return nil
}

// named returns a blob of the manifest as a file.
func (l layer) named(name string) *file {
	digest := strings.TrimPrefix(l.Digest, "sha256:")
	return &file{path: name, size: l.Size, blob: digest, git: digest, sum: sum{bySHA256, digest}}
}

// imageConfig is what is read of a configuration (OCI image specification, "Image Configuration").
type imageConfig struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		Entrypoint []string
		Cmd        []string
		Env        []string
		WorkingDir string
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// configure reads the configuration, once it is there.
func (s *imageSource) configure() error {
	data, err := s.cache.read("blobs/"+s.config.blob, maxJSON)
	if err != nil {
		return onDisk(err)
	}
	var c imageConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return s.bad("has a configuration that is no JSON object")
	}
	switch {
	case c.OS != "" && c.OS != "linux", c.Architecture != "" && c.Architecture != runtime.GOARCH:
		return &Failure{Reason: wire.BadImage, Message: fmt.Sprintf("%s is for %s/%s; this host is linux/%s", s.ref,
			wire.Text(c.OS, 20), wire.Text(c.Architecture, 20), runtime.GOARCH),
			Hint: "Name an image that is made for this host's processor."}
	case len(c.RootFS.DiffIDs) != len(s.layers):
		return s.bad(fmt.Sprintf("has %d layers, and a configuration for %d", len(s.layers), len(c.RootFS.DiffIDs)))
	}
	s.diffs = c.RootFS.DiffIDs
	s.info.Entrypoint, s.info.Cmd, s.info.Env = c.Config.Entrypoint, c.Config.Cmd, c.Config.Env
	s.info.WorkingDir = c.Config.WorkingDir
	return nil
}

func (s *imageSource) bad(why string) *Failure {
	return &Failure{Reason: wire.BadImage, Message: s.ref.String() + " " + why,
		Hint: "Do not use this image, or build it again."}
}

// finish unpacks the image whose layers are all there.
func (s *imageSource) finish(ctx context.Context, p plan) error {
	if !s.unpacked(p.commit) {
		if err := s.unpack(ctx, p); err != nil {
			return err
		}
	}
	if err := s.cache.root.RemoveAll(path.Join("snapshots", p.links)); err != nil {
		return onDisk(err)
	}
	for _, f := range p.files { // what was unpacked is there twice otherwise
		if err := s.cache.root.Remove("blobs/" + f.blob); err != nil && !errors.Is(err, unix.ENOENT) {
			return onDisk(err)
		}
	}
	return nil
}

func (s *imageSource) unpack(ctx context.Context, p plan) (err error) {
	if err := s.configure(); err != nil {
		return err
	}
	to := path.Join("snapshots", p.commit+imageNew)
	if err := s.cache.root.RemoveAll(to); err != nil { // of a run that was killed
		return onDisk(err)
	}
	defer func() {
		if err != nil { // a full disk needs the space for others
			_ = s.cache.root.RemoveAll(to)
		}
	}()
	if err := s.cache.root.MkdirAll(path.Join(to, image.RootName), 0o755); err != nil {
		return onDisk(err)
	}
	root, err := unpack.Open(filepath.Join(s.cache.dir, to, image.RootName), unpack.Limits{Bytes: s.request.MaxBytes})
	if err != nil {
		return onDisk(err)
	}
	defer root.Close()
	for i := range s.layers {
		if err := s.layer(ctx, root, i); err != nil {
			return err
		}
	}
	if err := root.Folders(mountedOn...); err != nil {
		return onDisk(err)
	}
	s.info.Bytes, s.info.Entries, s.info.Skipped = root.Bytes, root.Entries, root.Skipped
	return s.settle(p, to)
}

// layer unpacks one layer.
func (s *imageSource) layer(ctx context.Context, root *unpack.Root, i int) error {
	f, err := s.cache.root.Open("blobs/" + s.layers[i].blob)
	if err != nil {
		return onDisk(err)
	}
	defer f.Close()
	from := &shownReader{Reader: f, show: func() {
		s.print(wire.Event{Kind: wire.Progress, Bytes: s.complete.Load(), Total: s.complete.Load(),
			File: fmt.Sprintf("unpacking layer %d of %d", i+1, len(s.layers))})
	}}
	digest, err := root.Layer(ctx, from)
	var refused *unpack.Refused
	switch {
	case errors.As(err, &refused):
		return s.bad(fmt.Sprintf("has a layer (%d of %d) that is not unpacked: %s", i+1, len(s.layers),
			wire.Text(refused.Error(), 400)))
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return onDisk(err)
	case digest != s.diffs[i]:
		return &Failure{Reason: wire.DigestMismatch,
			Message: fmt.Sprintf("layer %d of %s unpacks to %s; its configuration has %s", i+1, s.ref, digest,
				wire.Text(s.diffs[i], 80)),
			Hint: "Do not use this image, or build it again."}
	}
	return nil
}

// mountedOn are folders of a root directory that PID 1 mounts something on. An image need not have
// them.
var mountedOn = []string{"dev", "etc", "home", "proc", "run", "srv", "sys", "tmp", "var/cache", "var/lib", "var/tmp",
	image.Scratch[1:]}

// settle puts an unpacked image where it is found, once all of it is on the disk.
func (s *imageSource) settle(p plan, from string) error {
	data, err := s.info.Marshal()
	if err != nil {
		return s.bad("cannot be used: " + err.Error())
	}
	if err := s.cache.replace(path.Join(from, image.FileName), data); err != nil {
		return err
	}
	d, err := s.cache.root.Open(from)
	if err != nil {
		return onDisk(err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return onDisk(err)
	}
	return onDisk(s.cache.root.Rename(from, path.Join("snapshots", p.commit)))
}

// shownReader shows once a second that it is read.
type shownReader struct {
	io.Reader
	show func()
	last time.Time
}

func (r *shownReader) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(r.last) >= time.Second {
		r.last = now
		r.show()
	}
	return r.Reader.Read(p)
}
