package supervise

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestDownload: the progress of a model that is downloaded is in the pool's status and in the
// reason of its state, and its begin and end are events; what runs is not touched by it.
func TestDownload(t *testing.T) {
	remote := llama(
		"a",
		func(p *pool.Pool) { p.Model, p.Replicas, p.Devices = "hf:acme/tiny/tiny.gguf", 2, [][]string{nil, nil} },
	)
	progress := []pool.Staging{
		{Bytes: 41, Total: 100, Rate: 10, File: "tiny.gguf"},
		{Bytes: 51, Total: 100, Note: "the hub is busy"},
	}
	t.Run("from_nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.download = progress
			m := w.manage(t, Desired{Pools: []pool.Pool{remote}})
			w.sync()
			m.wantState("a", registry.StateStaging, false)
			p := m.pool("a")
			if p.Staging == nil || p.Staging.String() != "41 %, 10 B/s, 5 s left" ||
				p.Replicas[0].Reason != "staging 41 %, 10 B/s, 5 s left" {
				t.Errorf("staging %v, reason %q", p.Staging, p.Replicas[0].Reason)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if p := m.pool("a"); p.Replicas[1].Reason != "staging 51 %, waits: the hub is busy" {
				t.Errorf("reason %q", p.Replicas[1].Reason)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if p := m.pool("a"); p.Staging != nil || p.State == registry.StateStaging {
				t.Errorf("after the download: %s, %v", p.State, p.Staging)
			}
			const want = "the download of hf:acme/tiny/tiny.gguf has begun; hf:acme/tiny/tiny.gguf is downloaded"
			if got := m.causes(registry.KindFetch); got != want {
				t.Errorf("events: %s", got)
			}
		})
	})
	t.Run("an_image_and_its_model", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.download = []pool.Staging{{Ref: "image:registry.example/llama:1", Bytes: 1}, {Bytes: 41, Total: 100}}
			one := remote
			one.Replicas, one.Devices = 1, one.Devices[:1]
			m := w.manage(t, Desired{Pools: []pool.Pool{one}})
			w.sync()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			const want = "the download of image:registry.example/llama:1 has begun; " +
				"image:registry.example/llama:1 is downloaded; " +
				"the download of hf:acme/tiny/tiny.gguf has begun; hf:acme/tiny/tiny.gguf is downloaded"
			if got := m.causes(registry.KindFetch); got != want {
				t.Errorf("events: %s", got)
			}
		})
	})
	t.Run("for_a_reload", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			m := w.manage(t, Desired{Pools: []pool.Pool{llama("a")}})
			w.sync()
			synctest.Wait()
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			w.with(func() { w.download, w.stageHangs = progress, true })
			if err := m.s.Reload(t.Context(), "a", ReloadRequest{Model: remote.Model, Deadline: -1}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			m.wantState("a", registry.StateReady, true)
			if p := m.pool("a"); p.Staging == nil || p.Staging.Bytes != 41 || p.Reload == nil {
				t.Errorf("staging %v, reload %v", p.Staging, p.Reload)
			}
			if w.called("stop ") != 0 {
				t.Error("the engine was stopped")
			}
		})
	})
	t.Run("that_is_refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.stage = func(pool.Pool) error {
				return registry.Fail(registry.CodePolicyDenied, "this host downloads nothing", "Set egress.")
			}
			m := w.manage(t, Desired{Pools: []pool.Pool{remote}})
			w.sync()
			m.wantState("a", registry.StateFailed, false)
			m.wantCode("a", registry.CodePolicyDenied)
		})
	})
}

// causes are the causes of the events of one kind.
func (m *manager) causes(kind registry.Kind) string {
	var all []string
	noted, _ := m.reg.Events(0)
	for _, e := range noted {
		if e.Kind == kind {
			all = append(all, e.Cause)
		}
	}
	return strings.Join(all, "; ")
}
