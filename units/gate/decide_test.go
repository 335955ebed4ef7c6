package gate

import (
	"os"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const stallTime = 10 * time.Second

// play takes a sample each second until there is a verdict, and returns it and its time. An engine
// that answers is reached by each request.
func play(at func(second int) Sample) (Verdict, time.Duration) {
	j := NewDecider(stallTime, 0)
	for second := range 600 {
		s := at(second)
		s.At = time.Duration(second) * time.Second
		if !j.Due(s.At) {
			s.Answer = Silent
		} else if s.Answer == Loading {
			s.Asked, s.Reached = s.At+time.Millisecond, true
		}
		if v := j.Next(s); v != Wait {
			return v, s.At
		}
	}
	return Wait, 600 * time.Second
}

func TestDecider(t *testing.T) {
	healthyAt := func(n int, s Sample, second int) Sample {
		s.Answer = Loading
		if second >= n {
			s.Answer = Healthy
		}
		return s
	}
	silentUntil := func(n int, s Sample, second int) Sample { // no listener before
		if second >= n {
			s.Answer = Healthy
		}
		return s
	}
	cases := []struct {
		name string
		at   func(second int) Sample
		want Verdict
		when time.Duration
	}{
		{"ready_when_it_answers", func(s int) Sample { return healthyAt(3, Sample{}, s) }, Ready, 3 * time.Second},
		{"no_listener_and_no_progress_is_a_stall", func(int) Sample { return Sample{} }, Stalled, stallTime},
		{"loading_without_progress_is_a_stall", func(int) Sample { return Sample{Answer: Loading} }, Stalled, stallTime},
		{"log_lines_alone_are_progress", func(s int) Sample { return silentUntil(60, Sample{Lines: uint64(s / 9)}, s) }, Ready, 60 * time.Second},
		{"input_alone_is_progress", func(s int) Sample { return silentUntil(60, Sample{Read: uint64(s) * 4096}, s) }, Ready, 60 * time.Second},
		{"page_faults_alone_are_progress", func(s int) Sample { return silentUntil(60, Sample{Faults: uint64(s)}, s) }, Ready, 60 * time.Second},
		{"cpu_alone_is_progress", func(s int) Sample {
			return healthyAt(60, Sample{CPU: time.Duration(s) * 100 * time.Millisecond}, s)
		}, Ready, 60 * time.Second},
		{"output_alone_is_progress", func(s int) Sample { return healthyAt(60, Sample{Written: uint64(s) << 20}, s) }, Ready, 60 * time.Second},
		{"a_log_file_that_the_kernel_writes_back_is_no_progress", func(s int) Sample {
			return Sample{Answer: Loading, Written: uint64(s/30) * 8192}
		}, Stalled, stallTime},
		{"answering_the_gate_is_no_progress", func(s int) Sample {
			return Sample{Answer: Loading, CPU: time.Duration(s) * 2 * time.Millisecond}
		}, Stalled, stallTime},
		{"less_than_a_page_is_no_progress", func(s int) Sample { return Sample{Read: uint64(s) * 100} }, Stalled, stallTime},
		// A helper's own counters go with it: what the others do afterwards is progress all the
		// same.
		{"page_faults_count_on_after_a_helper_has_ended", func(s int) Sample {
			if s < 5 {
				return Sample{Faults: 1000}
			}
			return silentUntil(60, Sample{Faults: uint64(s)}, s)
		}, Ready, 60 * time.Second},
		{"cpu_counts_on_after_a_helper_has_ended", func(s int) Sample {
			if s < 5 {
				return Sample{CPU: time.Minute}
			}
			return healthyAt(60, Sample{CPU: time.Duration(s) * 100 * time.Millisecond}, s)
		}, Ready, 60 * time.Second},
		{"helpers_that_come_and_go_idle_are_no_progress", func(s int) Sample { return Sample{Faults: uint64(20 - min(s, 20))} }, Stalled, stallTime},
		// A network file system counts neither as input nor as much CPU time.
		{"memory_that_fills_is_progress", func(s int) Sample { return healthyAt(60, Sample{Memory: uint64(s) << 20}, s) }, Ready, 60 * time.Second},
		{"growing_a_little_is_no_progress", func(s int) Sample { return Sample{Memory: uint64(s) << 14} }, Stalled, stallTime},
		{"memory_that_comes_and_goes_is_no_progress", func(s int) Sample { return Sample{Memory: uint64(s%2) << 24} }, Stalled, stallTime + time.Second},
		{"a_stall_after_progress_counts_from_there", func(s int) Sample { return Sample{Lines: uint64(min(s, 30))} }, Stalled, 40 * time.Second},
		{"dead_engine", func(s int) Sample { return Sample{Gone: s == 2, Answer: Healthy * Answer(b2i(s == 2))} }, EngineGone, 2 * time.Second},
		{"foreign_listener_is_never_ready", func(int) Sample { return Sample{Answer: Foreign} }, ForeignPort, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, when := play(c.at); got != c.want || when != c.when {
				t.Errorf("verdict %d after %s, want %d after %s", got, when, c.want, c.when)
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestPause(t *testing.T) {
	t.Run("an_engine_that_listens_early_is_seen_within_twice_its_time", func(t *testing.T) {
		looks := 0
		for at := time.Duration(0); at < 20*time.Millisecond; at += Pause(at) {
			if p := Pause(at); p > max(at, time.Millisecond) {
				t.Fatalf("Pause(%s) = %s", at, p)
			}
			looks++
		}
		if looks > 7 {
			t.Errorf("%d looks in the first 20 ms", looks)
		}
	})
	t.Run("a_load_is_asked_less_and_less_often", func(t *testing.T) {
		looks := 0
		for at := time.Duration(0); at < 10*time.Minute; at += Pause(at) {
			if p := Pause(at); p < time.Millisecond || p > time.Second || at > 200*time.Millisecond &&
				p < min(at/10, time.Second) {
				t.Fatalf("Pause(%s) = %s", at, p)
			}
			looks++
		}
		if looks > 670 {
			t.Errorf("%d looks in ten minutes", looks)
		}
	})
}

// FuzzDecider checks what must be true of every verdict.
func FuzzDecider(f *testing.F) {
	f.Add([]byte{1, 0, 0, 3})
	f.Fuzz(mutate.Many(func(t *testing.T, script []byte) {
		j := NewDecider(stallTime, 0)
		var s Sample
		for _, b := range script {
			s.At += time.Duration(b>>4) * time.Second
			s.Answer = Answer(b & 3)
			s.Gone = b&15 == 15
			s.Lines += uint64(b >> 2 & 1)
			s.Reached = s.Answer == Loading
			if s.Asked = 0; s.Reached {
				s.Asked = s.At
			}
			idle := j.Idle(s)
			switch v := j.Next(s); {
			case v == Ready && (s.Gone || s.Answer != Healthy):
				t.Fatalf("ready by accident: %+v", s)
			case v == Stalled && idle < stallTime:
				t.Fatalf("stalled after %s only: %+v", idle, s)
			case v != Wait:
				return
			}
		}
	}))
}

func TestParsers(t *testing.T) {
	t.Run("cpu_stat", func(t *testing.T) {
		if got, ok := parseCPUStat("usage_usec 1500000\nuser_usec 1\n"); !ok || got != 1500*time.Millisecond {
			t.Errorf("parseCPUStat = %s, %t", got, ok)
		}
		if _, ok := parseCPUStat("user 1\n"); ok {
			t.Error("a file without usage_usec was read")
		}
	})
	t.Run("io_stat", func(t *testing.T) {
		if read, written := parseIOStat("8:0 rbytes=100 wbytes=20 rios=1\n8:16 rbytes=3 dbytes=9\n"); read != 103 ||
			written != 20 {
			t.Errorf("parseIOStat = %d, %d, want 103, 20", read, written)
		}
	})
	t.Run("proc_stat_with_a_nasty_name", func(t *testing.T) {
		got := parseProcStat("42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 7 0 25 5 0 0 20 0 1 0 100 1 3")
		if want := (usage{cpu: 300 * time.Millisecond, faults: 7, memory: 3 * uint64(os.Getpagesize())}); got != want {
			t.Errorf("parseProcStat = %+v, want %+v", got, want)
		}
	})
	t.Run("journal_line", func(t *testing.T) {
		line := `{"_PID":"77","MESSAGE":[1,2],"__MONOTONIC_TIMESTAMP":"1500000"}`
		if pid, at := lineOrigin([]byte(line)); pid != 77 || at != 1500*time.Millisecond {
			t.Errorf("lineOrigin = %d, %s", pid, at)
		}
		before := monotonic()
		for _, line := range []string{"not json", `{"_PID":"x"}`} {
			if pid, at := lineOrigin([]byte(line)); pid != 0 || at < before || at > monotonic() {
				t.Errorf("lineOrigin of %q = %d, %s", line, pid, at)
			}
		}
	})
	for _, c := range []struct {
		line string
		want int
	}{{"HTTP/1.1 200 OK\r\n", 200}, {"HTTP/1.0 503\r\n", 503}, {"SSH-2.0\r\n", 0}, {"HTTP/1.1 9999 X", 0}, {"", 0}} {
		if got, err := parseStatus(c.line); got != c.want || (err == nil) != (c.want != 0) {
			t.Errorf("parseStatus(%q) = %d, %v", c.line, got, err)
		}
	}
	for _, u := range []string{"https://127.0.0.1:1/", "http://10.0.0.1:80/", "http://127.0.0.1/", "grpc://10.0.0.1:80",
		"udp://127.0.0.1:1", "x", ""} {
		if e, err := parseEndpoint(u, "", ""); err == nil {
			t.Errorf("parseEndpoint(%q) = %+v", u, e)
		}
	}
	for _, pattern := range []string{"=", "KG9r"} { // no base64, and "(ok"
		if e, err := parseEndpoint("http://127.0.0.1:1/", "", pattern); err == nil {
			t.Errorf("pattern %q = %+v", pattern, e)
		}
	}
}
