package supervise

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// meter adds up what metrics would count.
type meter struct {
	noObserver
	mu      sync.Mutex
	calls   int
	in, out uint64
	version string
}

func (m *meter) Counted(p registry.Pool, replica, version string, c registry.Counted) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	m.version = p.ID + "/" + replica + " " + version
	if c.TokensIn != nil {
		m.in += *c.TokensIn
	}
	if c.TokensOut != nil {
		m.out += *c.TokensOut
	}
}

// want checks the sums.
func (m *meter) want(t *testing.T, in, out uint64, why string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.calls == 0 || m.in != in || m.out != out || m.version != "a/r0 b1" {
		t.Errorf("counted %d and %d of %q, want %d and %d: %s", m.in, m.out, m.version, in, out, why)
	}
}

// page is what llama-server publishes after so many tokens.
func page(in, out, processing int) string {
	return fmt.Sprintf("llamacpp:prompt_tokens_total %d\nllamacpp:tokens_predicted_total %d\n"+
		"llamacpp:requests_processing %d\nllamacpp:requests_deferred 0\n", in, out, processing)
}

// metered is a manager of one pool whose engine publishes page(3, 5, 0).
func metered(t *testing.T, w *world) (*manager, *meter) {
	t.Helper()
	w.deferred = page(3, 5, 0)
	counts := &meter{}
	m := w.manage(t, pools(llama("a")), func(o *Options) { o.Observer = counts })
	w.passGate(unitOf("a"))
	time.Sleep(time.Minute)
	synctest.Wait() // the reading of this very moment, before the engine's page changes
	return m, counts
}

func TestFiguresOfEngines(t *testing.T) {
	publish := func(w *world, text string) {
		w.with(func() { w.deferred = text })
		time.Sleep(time.Minute)
	}
	scenario(t, "what_an_engine_counts_is_counted_once", func(t *testing.T, w *world) {
		_, counts := metered(t, w)
		counts.want(t, 3, 5, "of the first reading")
		publish(w, page(10, 5, 0))
		counts.want(t, 10, 5, "")
	})
	scenario(t, "a_restart_of_the_engine_goes_on_counting", func(t *testing.T, w *world) {
		_, counts := metered(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) { crashed(st) })
		w.with(func() { w.deferred = page(2, 9, 0) })
		w.again(unitOf("a"))
		w.passGate(unitOf("a"))
		time.Sleep(time.Minute)
		counts.want(t, 3+2, 5+9, "")
	})
	scenario(t, "counters_that_fall_are_of_a_new_process", func(t *testing.T, w *world) {
		_, counts := metered(t, w)
		publish(w, page(1, 7, 0))
		counts.want(t, 3+1, 5+2, "")
	})
	scenario(t, "an_adopted_engine_counts_from_now_on", func(t *testing.T, w *world) {
		w.deferred = page(1000, 2000, 0)
		m := w.manage(t, pools(llama("a")))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.stop()
		counts := &meter{}
		w.manage(t, pools(llama("a")), func(o *Options) { o.Observer = counts })
		time.Sleep(time.Minute)
		counts.want(t, 0, 0, "nothing of the time before")
		publish(w, page(1001, 2002, 0))
		counts.want(t, 1, 2, "")
	})
	scenario(t, "lies_count_nothing_and_are_shown", func(t *testing.T, w *world) {
		m, counts := metered(t, w)
		for _, lie := range []string{page(-1, 5, 0), "llamacpp:prompt_tokens_total NaN\n", page(1<<49, 5, 0)} {
			publish(w, lie)
			counts.want(t, 3, 5, lie)
		}
		if got := m.pool("a").Replicas[0].RefusedAnswers; len(got) != 1 {
			t.Errorf("refused answers %q, want one", got)
		}
	})
	scenario(t, "what_it_works_on_is_published_and_forgotten", func(t *testing.T, w *world) {
		m, _ := metered(t, w)
		want := func(busy, held int) {
			t.Helper()
			p := m.pool("a")
			if p.Work.InProgress == nil || *p.Work.InProgress != busy || *p.Work.TokensInFlight != held {
				t.Errorf("work %+v, want %d with %d tokens", p.Work, busy, held)
			}
		}
		want(0, 0)
		if n := w.called("get " + endpoint + "/slots"); n > 0 {
			t.Errorf("an engine that is idle was asked %d times for its slots: it may sleep", n)
		}
		w.with(func() { w.progress = func() int { return 42 } })
		publish(w, page(3, 5, 1))
		want(1, 42)
		w.ill(true)
		time.Sleep(time.Minute)
		if p := m.pool("a"); p.Work != (registry.Work{}) {
			t.Errorf("work %+v of an engine that does not answer", p.Work)
		}
	})
	scenario(t, "one_that_counts_is_asked_with_each_probe", func(t *testing.T, w *world) {
		metered(t, w)
		tokens := 3
		works := func() { // for a minute
			for range 6 {
				tokens++
				w.with(func() { w.deferred = page(tokens, 5, 0) })
				time.Sleep(10 * time.Second)
			}
		}
		works()
		before := w.called("get " + endpoint + "/metrics")
		works()
		if n := w.called("get "+endpoint+"/metrics") - before; n < 11 {
			t.Errorf("asked %d times in twelve probes", n)
		}
	})
}
