package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMounts: each name at the top of an image is a mount, a link as what it leads to in the image,
// but for what docker and the engine have there.
func TestMounts(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/lib", "etc", "proc", "run/lock", "tmp", "dev", "a,b"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "server"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"bin": "usr/bin", "lib": "/usr/lib", "lost": "/nowhere", "lock": "run/lock",
		"whole": "/", "host": "../../../../../../etc"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := mounts(root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`--mount=type=bind,"source=` + root + `/a,b","destination=/a,b",readonly=true`,
		"--mount=type=bind,source=" + root + "/usr/bin,destination=/bin,readonly=true",
		"--mount=type=bind,source=" + root + "/etc,destination=/etc,readonly=true",
		"--mount=type=bind,source=" + root + "/etc,destination=/host,readonly=true",
		"--mount=type=bind,source=" + root + "/usr/lib,destination=/lib,readonly=true",
		"--mount=type=bind,source=" + root + "/server,destination=/server,readonly=true",
		"--mount=type=bind,source=" + root + "/usr,destination=/usr,readonly=true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if _, err := mounts(filepath.Join(root, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an image that is gone: %v", err)
	}
}

// TestEmptyImage: the archive names its parts by what they are, and is the same each time, so that
// docker has the image once.
func TestEmptyImage(t *testing.T) {
	archive, err := emptyImage("amd64")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := emptyImage("amd64"); err != nil || !bytes.Equal(archive, again) {
		t.Errorf("another time it is another: %v", err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("%s (%v)", files["manifest.json"], err)
	}
	sum := func(name string) string {
		s := sha256.Sum256(files[name])
		return hex.EncodeToString(s[:])
	}
	if m := manifest[0]; m.Config != sum(m.Config)+".json" || !slices.Equal(m.RepoTags, []string{empty}) ||
		!slices.Equal(m.Layers, []string{"layer.tar"}) {
		t.Errorf("manifest %+v", m)
	}
	if c := string(files[manifest[0].Config]); !strings.Contains(c, `"sha256:`+sum("layer.tar")+`"`) ||
		!strings.Contains(c, `"architecture":"amd64"`) {
		t.Errorf("configuration %s", c)
	}
}

// script is a program in the place of docker's client, and a file with what it was asked.
func script(t *testing.T, body string) (Container, func() string) {
	t.Helper()
	dir := t.TempDir()
	path, asked := filepath.Join(dir, "docker"), filepath.Join(dir, "asked")
	text := "#!/bin/sh\necho \"$@\" >>" + asked + "\n" + body
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return Container{Docker: path, Name: "c"}, func() string {
		out, err := os.ReadFile(asked)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
}

func TestLoad(t *testing.T) {
	c, asked := script(t, "[ $1 = load ] && [ $(wc -c) -gt 1024 ]")
	if err := c.load(t.Context()); err != nil || !strings.HasSuffix(asked(), "\nload --quiet\n") {
		t.Errorf("%v; %s", err, asked())
	}
	c, asked = script(t, "exit 0")
	if err := c.load(t.Context()); err != nil || strings.Contains(asked(), "load") {
		t.Errorf("it is there: %v; %s", err, asked())
	}
	c, _ = script(t, "echo Cannot connect >&2; exit 1")
	if err := c.load(t.Context()); err == nil || !strings.Contains(err.Error(), "Cannot connect") {
		t.Errorf("without a daemon: %v", err)
	}
}

// TestClientReadsNoConfiguration: the engine could write one into its own home directory.
func TestClientReadsNoConfiguration(t *testing.T) {
	c, _ := script(t, `[ "$HOME$DOCKER_CONFIG" = /nonexistent/nonexistent ] && [ -z "$SECRET" ]`)
	t.Setenv("SECRET", "x")
	t.Setenv("DOCKER_HOST", "tcp://other")
	if err := c.client(t.Context(), "info").Run(); err != nil {
		t.Error(err)
	}
}

func TestArgv(t *testing.T) {
	c := Container{Docker: "/usr/bin/docker", Name: "pool-engine-a.r0"}
	start := Start{Unit: "pool-engine@a.r0.service", Gate: "/usr/lib/gate", Sealed: true, Options: []string{"--rm"},
		Engine: []string{"/usr/bin/server", "--", "-m"}}
	got := c.argv(start, "61234:61234", []string{"--group-add=44"}, []string{"--mount=x"})
	want := []string{"/usr/bin/docker", "run", "--name=pool-engine-a.r0", "--user=61234:61234", "--rm", "--group-add=44",
		"--mount=x", "--mount=type=bind,source=/usr/lib/gate,destination=/pool-gate,readonly=true", empty, "/pool-gate",
		"docker", "enter", "--unit=pool-engine@a.r0.service", "--sealed", "--", "/usr/bin/server", "--", "-m"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnified(t *testing.T) {
	for file, want := range map[string]string{
		"0::/../../pool-engines.slice/pool-engine@a.r0.service\n": "/../../pool-engines.slice/pool-engine@a.r0.service",
		"4:memory:/x\n0::/\n": "/",
		"4:memory:/x\n":       "",
		"":                    "",
	} {
		if got, found := unified(file); got != want || found != (want != "") {
			t.Errorf("%q: %q, %v", file, got, found)
		}
	}
}

// TestAttachEnds: where the client is gone nothing is waited for, nor after the unit's stop.
func TestAttachEnds(t *testing.T) {
	if controlGroup() == "" {
		t.Skip("this host has no cgroup2")
	}
	c, _ := script(t, "echo 0")
	if err := c.Attach(t.Context(), 1<<30); !errors.Is(err, ErrEnded) {
		t.Errorf("without a client: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Attach(ctx, os.Getpid()); !errors.Is(err, context.Canceled) {
		t.Errorf("after a stop: %v", err)
	}
}

// TestEnterEnds: a process that is asked to end while it waits does not become the engine.
func TestEnterEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	status, err := Enter(ctx, "pool-engine@no.r0.service", true, []string{"/bin/true"})
	if status != Failed || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", status, err)
	}
}
