package provision

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Images finds images that were unpacked (obtain.Obtainer).
type Images interface {
	// Find returns the directory of an image; empty: it is not there.
	Find(ref modelref.Ref) string
}

// image makes the image of a container present; report is called with the progress.
func (s *Stager) image(ctx context.Context, p pool.Pool, report func(pool.Staging)) error {
	if p.Provisioning.Mode != pool.ModeContainer {
		return nil
	}
	ref, err := modelref.ParseImage(p.Provisioning.Image)
	if err != nil {
		return registry.AsFailure(err, registry.CodeConfigInvalid, "Correct [provisioning] image.")
	}
	if s.Remote == nil {
		return registry.Fail(registry.CodeProvisionFailed, "images are not available here", "See poolctl check.")
	}
	_, err = s.Remote.Obtain(ctx, obtain.Want{Ref: ref}, func(progress pool.Staging) {
		progress.Ref = ref.String()
		report(progress)
	})
	return err
}

// contained is an image that a pool's engine runs in, while it is looked at.
type contained struct {
	*image.Tree
	ref, root string
	info      image.Info
	env       map[string]string // that of the image, the pool's variables over it
}

func (c *contained) fail(hint, format string, args ...any) *registry.Failure {
	return registry.Fail(registry.CodeProvisionFailed, "image "+c.ref+": "+fmt.Sprintf(format, args...), hint)
}

// again is how an image that is damaged is downloaded again.
func (c *contained) again() string {
	return "Remove it, and it is downloaded again: rm -r " + shell.Quote(path.Dir(c.root))
}

// find is the command that looks for a file in the image.
func (c *contained) find(name string) string {
	return "find " + shell.Quote(c.root) + " -name " + shell.Quote(name)
}

// show is the command that shows what a path in the image is.
func (c *contained) show(p string) string { return "ls -ld " + shell.Quote(path.Join(c.root, p)) }

// container finds the engine in the image of a pool.
func (pr *Preparer) container(ctx context.Context, p pool.Pool, a engine.Adapter) (pool.Prepared, error) {
	podman, err := pr.podman(ctx, p)
	if err != nil {
		return pool.Prepared{}, err
	}
	docker, lacks := pr.docker(ctx, p)
	if lacks != nil {
		return pool.Prepared{}, lacks
	}
	c, err := pr.open(p)
	if err != nil {
		return pool.Prepared{}, err
	}
	defer c.Close()
	binary, err := c.binary(p, a)
	if err != nil {
		return pool.Prepared{}, err
	}
	files, done, err := c.FS()
	if err != nil {
		return pool.Prepared{}, c.fail(c.again(), "%v", bring.Cause(err))
	}
	defer func() { _ = done() }()
	driver, err := pr.driver(p, c)
	if err != nil {
		return pool.Prepared{}, err
	}
	needs := programs.Resolve(files, binary, c.env)
	if arch := foreign(needs.Machine); arch != "" {
		return pool.Prepared{}, c.fail("Name an image for this host's processor as [provisioning] image: uname -m",
			"%s was built for %s, and this host is %s", binary, arch, c.info.Architecture)
	}
	if err := c.lacking(driver.without(needs)); err != nil {
		return pool.Prepared{}, err
	}
	if err := writable(p.Writable); err != nil {
		return pool.Prepared{}, err
	}
	prepared := pool.Prepared{Binary: binary, Programs: needs.Programs, Env: c.variables(driver),
		Image: &pool.Image{Root: c.root, Digest: c.info.Digest, Driver: driver.mounts, Podman: podman, Docker: docker}}
	if a.VersionArgs(binary) == nil {
		return prepared, nil
	}
	prepared.Version, err = pr.version(ctx, prepared, p, a, "")
	return prepared, err
}

func (pr *Preparer) open(p pool.Pool) (*contained, error) {
	ref, err := modelref.ParseImage(p.Provisioning.Image)
	if err != nil {
		return nil, registry.AsFailure(err, registry.CodeConfigInvalid, "Correct [provisioning] image.")
	}
	c := &contained{ref: p.Provisioning.Image}
	dir := ""
	if pr.Images != nil {
		dir = pr.Images.Find(ref)
	}
	if dir == "" {
		return nil, c.fail("It is downloaded again by itself; poolctl status shows that.",
			"it is no longer in the cache")
	}
	c.root = image.Root(dir)
	if c.info, err = image.Read(dir); err == nil {
		c.Tree, err = image.OpenTree(c.root)
	}
	if err != nil {
		return nil, c.fail(c.again(), "it cannot be used: %v", bring.Cause(err))
	}
	c.env = c.info.Variables()
	maps.Copy(c.env, p.Variables())
	return c, nil
}

// binary returns the path in the image of the program to execute: the pool's, else the entry point
// if that is one program or the engine's own, else the engine's by its usual name.
func (c *contained) binary(p pool.Pool, a engine.Adapter) (string, error) {
	own := a.DefaultBinary()
	entry := ""
	if e := c.info.Entrypoint; len(e) == 1 || len(e) > 1 && own != "" && path.Base(e[0]) == path.Base(own) {
		entry = e[0]
	}
	name := cmp.Or(p.Provisioning.Binary, entry, own)
	if name == "" {
		return "", c.fail("Name the program as [provisioning] binary; these are there: find "+shell.Quote(c.root)+
			" -type f -perm -1 -path '*/bin/*'",
			"its entry point is %s, and engine %s has no default binary", c.entrypoint(), p.Engine)
	}
	if strings.Contains(name, "/") {
		if !path.IsAbs(name) {
			name = path.Join("/", c.info.WorkingDir, name)
		}
		return c.executable(path.Clean(name))
	}
	search := strings.Split(cmp.Or(c.env["PATH"], programs.DefaultPath), ":")
	for _, dir := range search {
		if !path.IsAbs(dir) {
			continue
		}
		at := path.Join(dir, path.Base(name))
		if info, err := c.Stat(at); err == nil && info.Mode().IsRegular() {
			return c.executable(at)
		}
	}
	return "", c.fail("Name the engine's program in the image as [provisioning] binary: "+c.find(name),
		"no program %s in its PATH, %s; its entry point is %s", name, strings.Join(search, ":"), c.entrypoint())
}

func (c *contained) entrypoint() string {
	if len(c.info.Entrypoint) == 0 {
		return "not set"
	}
	return strings.Join(c.info.Entrypoint, " ")
}

// executable checks what execve(2) in the image would.
func (c *contained) executable(p string) (string, error) {
	correct := "Correct [provisioning] binary, or the image: "
	info, err := c.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", c.fail(correct+c.find(path.Base(p)), "%s does not exist in it", p)
	case err != nil:
		return "", c.fail(correct+c.show(p), "%s: %v", p, bring.Cause(err))
	case !info.Mode().IsRegular():
		return "", c.fail("Name the program itself as [provisioning] binary: "+c.show(p),
			"%s is not a regular file (%s)", p, info.Mode().Type())
	case info.Mode().Perm()&0o001 == 0:
		return "", c.fail(correct+c.show(p), "%s is not executable", p)
	}
	if why := confine.Path(p); why != "" {
		return "", c.fail("Rename it in the image: "+c.show(p), "%q %s", p, why)
	}
	head, err := c.Head(p, 4)
	if err != nil || string(head) != elf.ELFMAG && !strings.HasPrefix(string(head), "#!") {
		return "", c.fail("Name the engine's program: file "+shell.Quote(path.Join(c.root, p)),
			"%s is neither a program nor a script", p)
	}
	return p, nil
}

// lacking reports the first need of the program that the image does not have.
func (c *contained) lacking(needs programs.Needs) error {
	build := "The image is not whole: use another, or build it again. This looks for the file: "
	for _, m := range needs.Missing {
		switch {
		case m.Kind == programs.Library:
			return c.fail("Use another image, or name its folder in the image as [env] LD_LIBRARY_PATH: "+
				c.find(m.Name),
				"library %s, which %s needs, is not in it", m.Name, m.By)
		case m.Kind == programs.Loader:
			return c.fail(build+c.find(path.Base(m.Name)), "%s needs the dynamic loader %s, which is not in it",
				m.By, m.Name)
		default:
			return c.fail(build+c.find(path.Base(m.Name)), "%s needs %s, which is not in it", m.By, m.Name)
		}
	}
	return nil
}

// variables are those of the image and of the driver that a unit can hold, without those that the
// unit sets.
func (c *contained) variables(d driver) map[string]string {
	all := c.info.Variables()
	maps.Copy(all, d.variables)
	managed := []string{confine.EnvHome, confine.EnvCache, confine.EnvVisible, confine.EnvDeviceOrder}
	maps.DeleteFunc(all, func(name, value string) bool {
		return slices.Contains(managed, name) || !confine.Variable(name, value)
	})
	return all
}
