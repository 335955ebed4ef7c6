package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// unpacked is a cache with one image, or none.
type unpacked struct {
	dir   string
	asked []string
	err   error
}

func (u *unpacked) Find(modelref.Ref) string { return u.dir }

func (u *unpacked) Obtain(_ context.Context, w obtain.Want, _ func(pool.Staging)) (obtain.Got, error) {
	u.asked = append(u.asked, w.Ref.String())
	return obtain.Got{Path: u.dir}, u.err
}

const imageDigest = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

// newImage makes an unpacked image of files by their path: a text with "->" is a link.
func newImage(t *testing.T, info image.Info, files map[string]string) *unpacked {
	t.Helper()
	u := &unpacked{dir: t.TempDir()}
	info.Digest = imageDigest
	data, err := info.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Mkdir(image.Root(u.dir), 0o755),
		os.WriteFile(filepath.Join(u.dir, image.FileName), data, 0o644))
	for name, text := range files {
		at := filepath.Join(image.Root(u.dir), name)
		err = errors.Join(err, os.MkdirAll(filepath.Dir(at), 0o755))
		if to, link := strings.CutPrefix(text, "->"); link {
			err = errors.Join(err, os.Symlink(to, at))
			continue
		}
		err = errors.Join(err, os.WriteFile(at, []byte(text), 0o644))
		if strings.Contains(name, "bin/") || strings.HasPrefix(name, "app/") {
			err = errors.Join(err, os.Chmod(at, 0o755))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestPrepareContainer: which program of an image is the engine, and what is said of one that has
// none.
func TestPrepareContainer(t *testing.T) {
	entry := func(words ...string) image.Info { return image.Info{Entrypoint: words} }
	server := map[string]string{"usr/bin/llama-server": elfHead, "app/llama-server": elfHead, "app/other": elfHead}
	with := func(name, text string) map[string]string { return map[string]string{name: text} }
	for name, c := range map[string]struct {
		info   image.Info
		files  map[string]string
		binary string // of the pool
		want   string // the path
		fails  string // or why there is none
	}{
		"entrypoint":               {entry("/app/llama-server"), server, "", "/app/llama-server", ""},
		"entrypoint_by_name":       {entry("llama-server"), server, "", "/usr/bin/llama-server", ""},
		"path_of_the_image":        {image.Info{Env: []string{"PATH=/none:/app"}}, server, "", "/app/llama-server", ""},
		"entrypoint_with_words":    {entry("/app/llama-server", "--host", "0.0.0.0"), server, "", "/app/llama-server", ""},
		"wrapped_by_another":       {entry("/sbin/tini", "--"), server, "", "/usr/bin/llama-server", ""},
		"in_the_working_directory": {image.Info{Entrypoint: []string{"./other"}, WorkingDir: "/app"}, server, "", "/app/other", ""},
		"of_the_pool":              {entry("/app/llama-server"), server, "/app/other", "/app/other", ""},
		"of_the_pool_by_name":      {entry("/app/other"), server, "llama-server", "/usr/bin/llama-server", ""},
		"through_a_link":           {entry("/start"), map[string]string{"start": "->/app/x", "app/x": elfHead}, "", "/start", ""},
		"link_to_the_host":         {entry("/start"), with("start", "->/usr/bin/env"), "", "", "/start does not exist in it"},
		"link_that_climbs":         {entry("/start"), with("start", "->../../../../../../usr/bin/env"), "", "", "/start does not exist in it"},
		"no_such_program":          {entry("/app/none"), server, "", "", "/app/none does not exist in it"},
		"no_program_by_its_name":   {entry("/tini", "--", "x"), with("a", ""), "", "", "no program llama-server in its PATH"},
		"not_executable":           {entry("/etc/x"), with("etc/x", elfHead), "", "", "/etc/x is not executable"},
		"a_folder":                 {entry("/app"), server, "", "", "/app is not a regular file"},
		"a_text":                   {entry("/app/x"), with("app/x", "hello"), "", "", "neither a program nor a script"},
		"a_path_that_is_lost":      {entry("/app/a b"), with("app/a b", elfHead), "", "", "holds a space"},
		"no_interpreter":           {entry("/app/x"), with("app/x", "#!/bin/sh\n"), "", "", "/app/x needs /bin/sh, which is not in it"},
		"other_processor":          {entry("/app/x"), with("app/x", foreignELF), "", "", "was built for alpha"},
	} {
		t.Run(name, func(t *testing.T) {
			u := newImage(t, c.info, c.files)
			said := said{out: "version: 7 (a)"}
			pr := &Preparer{Capture: &said, Gate: "/gate", Log: slog.New(slog.DiscardHandler), Images: u}
			adapter, _ := engine.For(engine.LlamaCpp)
			got, err := pr.Prepare(t.Context(), containerPool(c.binary), adapter)
			if c.fails != "" {
				var f *registry.Failure
				if !errors.As(err, &f) || f.Code != registry.CodeProvisionFailed || f.Hint == "" ||
					!strings.Contains(f.Message, c.fails) || !strings.Contains(f.Message, "registry.example/llama:1") {
					t.Fatalf("%v, want %q", err, c.fails)
				}
				pasted(t, f.Hint)
				return
			}
			root := &pool.Image{Root: image.Root(u.dir), Digest: imageDigest}
			if err != nil || got.Binary != c.want || cmp.Diff(root, got.Image) != "" || got.Version != "7" {
				t.Errorf("%+v, %v", got, err)
			}
			if text := fmt.Sprint(said.props); !strings.Contains(text, "{RootDirectory "+root.Root+"}") {
				t.Errorf("the version is not asked in the image: %s", text)
			}
		})
	}
}

func containerPool(binary string) pool.Pool {
	return pool.Pool{ID: "a", Engine: engine.LlamaCpp, Provisioning: pool.Provisioning{Mode: pool.ModeContainer,
		Image: "registry.example/llama:1", Binary: binary}}
}

// TestContainerVariables: those of the image are the engine's, but for those that the unit sets and
// those that it cannot hold.
func TestContainerVariables(t *testing.T) {
	u := newImage(t, image.Info{Entrypoint: []string{"/app/x"}, Env: []string{"A=b", "HOME=/root", "PATH=/app",
		"CUDA_VISIBLE_DEVICES=all", "BAD-NAME=1", "LINES=a\nb"}}, map[string]string{"app/x": elfHead})
	pr := &Preparer{Capture: &said{}, Log: slog.New(slog.DiscardHandler), Images: u}
	adapter, _ := engine.For(engine.LlamaCpp)
	got, err := pr.Prepare(t.Context(), containerPool(""), adapter)
	if diff := cmp.Diff(map[string]string{"A": "b", "PATH": "/app"}, got.Env); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}

// TestContainerDriver: an engine with GPUs gets the driver's files, and looks for them where the
// image's own loader does not. Without a description it is not started.
func TestContainerDriver(t *testing.T) {
	host := t.TempDir()
	lib := filepath.Join(host, "libcuda.so.1")
	description := `{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"1"}],"containerEdits":{"env":["A=driver"],
		"mounts":[{"hostPath":"` + lib + `","containerPath":"/usr/lib/gpu/libcuda.so.1"},
		{"hostPath":"` + lib + `","containerPath":"/usr/lib/libcuda.so.1"}]}}`
	if err := errors.Join(os.WriteFile(lib, nil, 0o644),
		os.WriteFile(filepath.Join(host, "nvidia.json"), []byte(description), 0o644)); err != nil {
		t.Fatal(err)
	}
	u := newImage(t, image.Info{Entrypoint: []string{"/app/x"}, Env: []string{"A=image", "LD_LIBRARY_PATH=/app/lib"}},
		map[string]string{"app/x": elfHead, "usr/lib/libc.so.6": ""})
	said := said{out: "version: 7 (a)"}
	pr := &Preparer{Capture: &said, Gate: "/gate", Log: slog.New(slog.DiscardHandler), Images: u, CDI: []string{host}}
	adapter, _ := engine.For(engine.LlamaCpp)
	p := containerPool("")
	p.Devices = [][]string{{"1"}, {"1"}}
	got, err := pr.Prepare(t.Context(), p, adapter)
	if err != nil {
		t.Fatal(err)
	}
	want := []pool.Mount{{Host: lib, Inside: "/usr/lib/gpu/libcuda.so.1"}, {Host: lib, Inside: "/usr/lib/libcuda.so.1"}}
	if diff := cmp.Diff(want, got.Image.Driver); diff != "" {
		t.Error(diff)
	}
	env := map[string]string{"A": "driver", "LD_LIBRARY_PATH": "/app/lib:/usr/lib/gpu"}
	if diff := cmp.Diff(env, got.Env); diff != "" {
		t.Error(diff)
	}
	if text := fmt.Sprint(said.props); !strings.Contains(text, "/usr/lib/gpu/libcuda.so.1") {
		t.Errorf("the version is asked without the driver: %s", text)
	}
	p.Devices = [][]string{{"0"}}
	var f *registry.Failure
	if _, err := pr.Prepare(t.Context(), p, adapter); !errors.As(err, &f) || f.Code != registry.CodeProvisionFailed ||
		!strings.Contains(f.Message, "nvidia.com/gpu=0") || !strings.Contains(f.Hint, "nvidia-ctk cdi generate") {
		t.Errorf("a GPU that is not described: %v", err)
	}
}

// TestStageImage: the image of a container is made present before its engine is prepared; one that
// is gone or damaged meanwhile is a failure with what to do.
func TestStageImage(t *testing.T) {
	u := newImage(t, image.Info{}, nil)
	s := &Stager{Remote: u, Log: slog.New(slog.DiscardHandler)}
	p := containerPool("")
	if err := s.image(t.Context(), p, nil); err != nil || len(u.asked) != 1 ||
		u.asked[0] != "image:registry.example/llama:1" {
		t.Errorf("%v; asked for %q", err, u.asked)
	}
	u.err = registry.Fail(registry.CodePolicyDenied, "no", "change it")
	if err := s.image(t.Context(), p, nil); !errors.Is(err, u.err) {
		t.Errorf("%v", err)
	}
	p.Provisioning.Mode = pool.ModeBinary
	if err := s.image(t.Context(), p, nil); err != nil {
		t.Errorf("of a binary: %v", err)
	}
	pr := &Preparer{Log: slog.New(slog.DiscardHandler), Images: &unpacked{}}
	adapter, _ := engine.For(engine.LlamaCpp)
	for what, dir := range map[string]string{"is no longer in the cache": "", "cannot be used": t.TempDir()} {
		pr.Images = &unpacked{dir: dir}
		_, err := pr.Prepare(t.Context(), containerPool(""), adapter)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}
