package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// stockpile is a library of one download, which goes on a step each time it is listed.
type stockpile struct {
	mu    sync.Mutex
	asked []string
	steps []registry.Download // by the listings
	first registry.Download   // the answer to a request
	err   error
	// listed is called after each listing.
	listed func()
}

func (s *stockpile) Pull(_ context.Context, model, digest, _ string) (registry.Download, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, strings.TrimSpace("pull "+model+" "+digest))
	return s.first, s.err
}

func (s *stockpile) CancelPull(_ context.Context, model, _ string) (registry.Download, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, "cancel "+model)
	return s.first, s.err
}

func (s *stockpile) Downloads() []registry.Download {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listed != nil {
		s.listed()
	}
	if len(s.steps) == 0 {
		return nil
	}
	step := s.steps[0]
	if len(s.steps) > 1 {
		s.steps = s.steps[1:]
	}
	return []registry.Download{step}
}

func (s *stockpile) Models(context.Context) (wire.ModelList, error) {
	return wire.ModelList{Models: []wire.CachedModel{}}, nil
}

func (s *stockpile) Open(context.Context, string) (*os.File, error) { return nil, os.ErrNotExist }

// TestPull: a download is followed to its end, whatever that is.
func TestPull(t *testing.T) {
	const model = "hf:acme/tiny:Q8_0"
	at := func(state registry.DownloadState, f func(*registry.Download)) registry.Download {
		d := registry.Download{Model: model, By: "uid:0", State: state, Changed: clock}
		if f != nil {
			f(&d)
		}
		return d
	}
	queued := at(registry.DownloadQueued, nil)
	half := at(registry.DownloadRunning, func(d *registry.Download) {
		d.Progress = &registry.Staging{Bytes: 41e9, Total: 100e9, Rate: 310e6}
	})
	done := at(registry.DownloadDone, func(d *registry.Download) { d.Path = "/var/cache/m/a.gguf" })
	failed := at(registry.DownloadFailed, func(d *registry.Download) {
		d.Failure = registry.Fail(registry.CodeModelNotFound, "no such file", "Correct it.")
	})
	cancelled := at(registry.DownloadCancelled, nil)
	shared := at(registry.DownloadRunning, func(d *registry.Download) { d.Pools, d.By = []string{"a"}, "" })
	for name, c := range map[string]struct {
		args  string
		first registry.Download
		steps []registry.Download
		err   error
		code  int
		out   string
		stderr,
		asked string
	}{
		"to_the_end":              {model, queued, []registry.Download{half, done}, nil, 0, "is at /var/cache/m/a.gguf", model + ": queued", "pull " + model},
		"it_is_there":             {model, done, nil, nil, 0, "is at /var/cache/m/a.gguf", "", "pull " + model},
		"it_fails":                {model, half, []registry.Download{failed}, nil, 1, "", "MODEL_NOT_FOUND: no such file", "pull " + model},
		"cancelled_by_another":    {model, half, []registry.Download{cancelled}, nil, 1, "", "cancelled meanwhile", "pull " + model},
		"denied":                  {model, queued, nil, registry.Fail(registry.CodePolicyDenied, "not from here", `Set egress = "fetch".`), 1, "", "not from here", "pull " + model},
		"detached":                {"--detach " + model, queued, nil, nil, 0, "is queued", "", "pull " + model},
		"with_a_digest":           {"-d --digest sha256:0a " + model, queued, nil, nil, 0, "is queued", "", "pull " + model + " sha256:0a"},
		"cancel":                  {"--cancel " + model, cancelled, nil, nil, 0, "what is on disk is kept", "", "cancel " + model},
		"cancel_what_a_pool_will": {"--cancel " + model, shared, nil, nil, 0, "a will change to it", "", "cancel " + model},
		"cancel_nothing":          {"--cancel", queued, nil, nil, 2, "", "name a model", ""},
		"list":                    {"", queued, []registry.Download{half}, nil, 0, "41 %, 310 MB/s, 3 min left", "", ""},
		"list_of_a_failure":       {"", queued, []registry.Download{failed}, nil, 0, "no such file", "", ""},
		"list_for_programs":       {"-o json", queued, []registry.Download{half}, nil, 0, `"total_bytes":100000000000`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.shelf.first, h.shelf.steps, h.shelf.err = c.first, c.steps, c.err
			got := h.run(append([]string{"models", "pull"}, strings.Fields(c.args)...)...)
			if got.code != c.code || !strings.Contains(got.out, c.out) || !strings.Contains(got.errOut, c.stderr) {
				t.Errorf("exit status %d\n%s%s", got.code, got.out, got.errOut)
			}
			if asked := strings.Join(h.shelf.asked, ";"); asked != c.asked {
				t.Errorf("asked %q", asked)
			}
		})
	}
}

// TestPullInterrupted: the download goes on, and the command says so.
func TestPullInterrupted(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running := registry.Download{Model: "hf:a/b", State: registry.DownloadRunning}
	h.shelf.first, h.shelf.steps, h.shelf.listed = running, []registry.Download{running}, cancel
	got := poolctl(ctx, "models", "pull", "hf:a/b", "--socket", h.socket)
	if got.code != 1 || !strings.Contains(got.errOut, "The download goes on.") ||
		!strings.Contains(got.errOut, "--cancel hf:a/b") || slices.Contains(h.shelf.asked, "cancel hf:a/b") {
		t.Errorf("exit status %d, asked %q\n%s", got.code, h.shelf.asked, got.errOut)
	}
}

// TestBar: on a terminal one line is written over, elsewhere a line is printed now and then.
func TestBar(t *testing.T) {
	total, rate := int64(100), int64(1)
	steps := []wire.Download{
		{Model: "m\x1b", State: "queued"},
		{Model: "m\x1b", State: "running", Progress: &wire.Staging{Bytes: 50, Total: &total, Rate: &rate}},
		{Model: "m\x1b", State: "running", Progress: &wire.Staging{Bytes: 100, Total: &total}},
	}
	for _, terminal := range []bool{true, false} {
		var out bytes.Buffer
		now := clock
		b := newBar(&out, terminal, func() time.Time { return now })
		for _, d := range steps {
			b.show(d)
			now = now.Add(6 * time.Second)
		}
		b.end()
		want := "m?: queued\nm?: 100 %\n"
		if terminal {
			want = "\rqueued\r[############............] 50 %, 1 B/s, 50 s left" +
				"\r[########################] 100 %" + strings.Repeat(" ", 17) + "\n"
		}
		if got := out.String(); got != want {
			t.Errorf("terminal %v: %q, want %q", terminal, got, want)
		}
	}
}
