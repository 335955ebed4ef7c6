package gate

import (
	"testing"
	"time"
)

// answering is an engine that answers each request with 404, and what it uses for that.
type answering struct {
	cpu    time.Duration   // for each request
	read   uint64          // bytes, likewise
	leak   uint64          // bytes, likewise
	delays []time.Duration // of the log lines for one request
	every  int             // requests whose lines are written together, with the last one; 0: each by itself
}

// watched plays a gate and such an engine. own is progress of the engine's that no request causes,
// as log lines; it returns the verdict and its time.
func (e answering) watched(stall time.Duration, own func(second int) bool,
	until time.Duration) (Verdict, time.Duration) {
	d, r := NewDecider(stall, 0), requests{echoes: Echo(stall)}
	var lines []time.Duration // when each is written
	var total Sample
	const step = 50 * time.Millisecond
	next, asked := time.Duration(0), 0
	for at := time.Duration(0); at < 2*time.Hour; at += step {
		if own != nil && at%time.Second == 0 && own(int(at/time.Second)) {
			lines = append(lines, at)
		}
		if at < next {
			continue
		}
		later := lines[:0]
		for _, line := range lines {
			if line > at {
				later = append(later, line)
			} else if !r.echo(line) {
				total.Lines++
			}
		}
		lines = later
		s := total
		s.At = at
		if d.Due(at) {
			asked++
			s.Asked, s.Reached = at+step/2, true
			r.times = append(r.times, request{at, s.Asked})
			total.CPU, total.Read, total.Memory = total.CPU+e.cpu, total.Read+e.read, total.Memory+e.leak
			if e.every == 0 || asked%e.every == 0 {
				for _, delay := range e.delays {
					lines = append(lines, at+delay)
				}
			}
			if s.Answer = Loading; until > 0 && at >= until {
				s.Answer = Healthy
			}
		}
		if v := d.Next(s); v != Wait {
			return v, at
		}
		next = at + d.Pause(at+step/2)
	}
	return Wait, 2 * time.Hour
}

// TestOwnRequestsAreNoProgress: an engine that does nothing but answer the gate stalls, whatever it
// logs of that and however.
func TestOwnRequestsAreNoProgress(t *testing.T) {
	ms := func(n ...int) (all []time.Duration) {
		for _, d := range n {
			all = append(all, time.Duration(d)*time.Millisecond)
		}
		return all
	}
	for name, e := range map[string]answering{
		"one_line_as_uvicorn":                 {cpu: 3 * time.Millisecond, delays: ms(2)},
		"a_line_before_and_one_after":         {cpu: time.Millisecond, delays: ms(0, 30)},
		"many_lines_as_tritons_verbose_log":   {cpu: time.Millisecond, delays: ms(0, 1, 1, 2, 2, 3, 8)},
		"a_late_line_as_a_logger_with_timer":  {cpu: time.Millisecond, delays: ms(900)},
		"a_buffer_that_is_full_now_and_then":  {cpu: time.Millisecond, delays: ms(1, 1, 1, 1), every: 40},
		"a_slow_host_that_takes_80_ms_for_it": {cpu: 80 * time.Millisecond, delays: ms(75)},
		"a_page_is_read_for_each_request":     {cpu: time.Millisecond, read: 16 << 10},
		"memory_leaks_with_each_request":      {cpu: time.Millisecond, leak: 24 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			for _, stall := range []time.Duration{20 * time.Second, 5 * time.Minute, time.Hour} {
				// In the first seconds it is asked so often that its answers look like work.
				const early = 20 * time.Second
				if v, at := e.watched(stall, nil, 0); v != Stalled || at < stall || at > stall+early {
					t.Errorf("stall time %s: verdict %d after %s", stall, v, at)
				}
			}
		})
	}
}

// TestProgressBesideAnswers: the same engines, which also load. A line of their own is seen between
// the requests, and readiness is not seen much later for it.
func TestProgressBesideAnswers(t *testing.T) {
	e := answering{cpu: 3 * time.Millisecond, delays: []time.Duration{2 * time.Millisecond}}
	for name, every := range map[string]int{"a_line_each_second": 1, "a_line_each_7_s": 7, "a_line_each_20_s": 20} {
		t.Run(name, func(t *testing.T) {
			const loaded = 47 * time.Minute
			v, at := e.watched(5*time.Minute, func(second int) bool { return second%every == 0 }, loaded)
			if v != Ready || at < loaded || at > loaded+longestPause+time.Second {
				t.Errorf("verdict %d after %s", v, at)
			}
		})
	}
}

func TestEchoes(t *testing.T) {
	r := requests{echoes: 2 * time.Second}
	r.times = []request{{10 * time.Second, 11 * time.Second}, {20 * time.Second, 0}}
	for second, want := range map[int]bool{9: false, 10: true, 13: true, 14: false, 19: false, 20: true, 300: true} {
		if got := r.echo(time.Duration(second) * time.Second); got != want {
			t.Errorf("echo at %d s = %t", second, got)
		}
	}
	t.Run("one_that_reached_nothing_is_forgotten", func(t *testing.T) {
		var r requests
		r.time(func() heard { return heard{reached: true} })
		r.time(func() heard { return heard{} })
		if len(r.times) != 1 || r.times[0].ended < r.times[0].began || r.times[0].began == 0 {
			t.Errorf("%+v", r.times)
		}
	})
	t.Run("are_bounded", func(t *testing.T) {
		var r requests
		for range 3 * mostRequests {
			r.time(func() heard { return heard{reached: true} })
		}
		if len(r.times) > mostRequests {
			t.Errorf("%d are kept", len(r.times))
		}
	})
}

// TestDeadline: a deadline ends a load whatever it shows, and not an engine that is ready.
func TestDeadline(t *testing.T) {
	d := NewDecider(10*time.Second, time.Minute)
	for at := time.Duration(0); at < time.Minute; at += time.Second {
		if v := d.Next(Sample{At: at, CPU: at}); v != Wait {
			t.Fatalf("verdict %d after %s", v, at)
		}
	}
	if v := d.Next(Sample{At: time.Minute, CPU: time.Minute, Answer: Healthy}); v != Ready {
		t.Errorf("ready in the last moment: verdict %d", v)
	}
	if v := d.Next(Sample{At: time.Minute, CPU: time.Minute}); v != Late {
		t.Errorf("verdict %d, want late", v)
	}
}
