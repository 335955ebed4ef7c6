package provision

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// hangs is a unit whose program never ends.
type hangs struct{ asked int }

func (h *hangs) RunCapture(ctx context.Context, _ string, _ []systemd.Property, _ int) ([]byte, systemd.Status, error) {
	h.asked++
	<-ctx.Done()
	return nil, systemd.Status{}, ctx.Err()
}

// TestABinaryThatHangs: a program that does not answer delays one preparation by a bound, a script
// by a longer one; it is asked again after a while, and its version is unknown until then.
func TestABinaryThatHangs(t *testing.T) {
	for _, c := range []struct {
		name, file, text, kind string
		waits                  time.Duration
	}{
		{"a_program", "llama-server", elfHead, engine.LlamaCpp, 20 * time.Second},
		{"a_script", "vllm", "#!/bin/sh\n", engine.VLLM, 3 * time.Minute},
		{"an_interpreter", "python3.12", elfHead, engine.SGLang, 3 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			binary, store := d.file(c.file, c.text, 0o755), d.store()
			adapter, _ := engine.For(c.kind)
			synctest.Test(t, func(t *testing.T) {
				var log strings.Builder
				h := &hangs{}
				pr := &Preparer{Store: store, Capture: h, Log: slog.New(slog.NewTextHandler(&log, nil))}
				p := pool.Pool{ID: "a", Engine: c.kind, Provisioning: pool.Provisioning{Binary: binary}}
				prepares := func(want time.Duration, asked int) {
					t.Helper()
					began := time.Now()
					got, err := pr.Prepare(t.Context(), p, adapter)
					if took := time.Since(began); err != nil || got.Version != "" || took != want || h.asked != asked {
						t.Errorf("%+v, %v after %s, asked %d times; want %s, %d", got, err, took, h.asked, want, asked)
					}
				}
				prepares(c.waits, 1)
				prepares(0, 1)
				time.Sleep(askAgain)
				prepares(c.waits, 2)
				if n := strings.Count(log.String(), "did not end within"); n != 2 {
					t.Errorf("%d warnings:\n%s", n, &log)
				}
			})
		})
	}
}
