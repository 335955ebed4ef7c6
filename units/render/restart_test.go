package render_test

import (
	"maps"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// property returns a rendered property's value, nil when it is not in the unit.
func property(t *testing.T, in render.Input, name string) any {
	t.Helper()
	unit, err := render.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range unit.Properties() {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

func backoff(initial, longest time.Duration, factor, jitter float64) change {
	return with(func(p *pool.Pool) {
		p.Restart.Initial, p.Restart.Max, p.Restart.Factor, p.Restart.Jitter = initial, longest, factor, jitter
	})
}

// TestRestartSteps: PID 1 reaches the longest delay, and never grows faster than the factor.
func TestRestartSteps(t *testing.T) {
	cases := []struct {
		name    string
		backoff change
		want    any
	}{
		{"one_to_sixty_by_two", backoff(time.Second, time.Minute, 2, 0), uint32(6)},
		{"whole_power", backoff(time.Second, 64*time.Second, 2, 0), uint32(6)},
		{"just_above_a_power", backoff(time.Second, 65*time.Second, 2, 0), uint32(7)},
		{"less_than_one_step", backoff(time.Second, 1500*time.Millisecond, 2, 0), uint32(1)},
		{"constant", backoff(time.Second, time.Second, 2, 0), nil},
		{"longest_below_the_first", backoff(time.Minute, time.Second, 2, 0), nil},
		{"no_growth", backoff(time.Second, time.Minute, 1, 0), nil},
		{"no_delay", backoff(0, time.Minute, 2, 0), nil},
		{"hardly_any_growth", backoff(time.Second, 24*time.Hour, 1.000001, 0), uint32(1000)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := input(c.backoff)
			if got := property(t, in, "RestartSteps"); got != c.want {
				t.Errorf("RestartSteps is %v, want %v", got, c.want)
			}
			if cap := property(t, in, "RestartMaxDelayUSec"); (cap != nil) != (c.want != nil) {
				t.Errorf("RestartMaxDelayUSec is %v: the two only work together", cap)
			}
			steps, ok := c.want.(uint32)
			if !ok || steps == 1000 {
				return
			}
			r := in.Pool.Restart
			if step := math.Pow(float64(r.Max)/float64(r.Initial), 1/float64(steps)); step > r.Factor*(1+1e-9) {
				t.Errorf("PID 1 grows by %v, want at most %v", step, r.Factor)
			}
		})
	}
	if got := property(t, input(systemd252), "RestartSteps"); got != nil {
		t.Errorf("systemd 252 is sent RestartSteps %v", got)
	}
}

// pid1 is the delay before PID 1's restart after n earlier ones: service_restart_usec_next in
// systemd's source (254 and later).
func pid1(first, longest time.Duration, steps uint32, n int) time.Duration {
	if n == 0 || steps == 0 || longest <= first {
		return first
	}
	if n >= int(steps) {
		return longest
	}
	return time.Duration(float64(first) * math.Pow(float64(longest)/float64(first), float64(n)/float64(steps)))
}

// TestPID1Delays: what PID 1 waits by itself is what the manager's policy says, never longer, and
// less by at most one step of factor: its steps are whole.
func TestPID1Delays(t *testing.T) {
	for _, c := range []struct {
		name             string
		initial, longest time.Duration
		factor           float64
	}{
		{"defaults", time.Second, time.Minute, 2},
		{"whole_power", time.Second, 64 * time.Second, 2},
		{"just_above_a_power", time.Second, 65 * time.Second, 2},
		{"slow_growth", 2 * time.Second, 10 * time.Minute, 1.2},
		{"fast_growth", 100 * time.Millisecond, 24 * time.Hour, 10},
		{"constant", 5 * time.Second, 5 * time.Second, 2},
		{"no_growth", 5 * time.Second, time.Minute, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input(backoff(c.initial, c.longest, c.factor, 0))
			steps, _ := property(t, in, "RestartSteps").(uint32)
			policy := restarts.PolicyOf(in.Pool)
			for n := range 40 {
				got, want := pid1(c.initial, c.longest, steps, n), policy.Backoff(n)
				if got > want+time.Microsecond || float64(got)*c.factor < float64(want)*(1-1e-9) {
					t.Errorf("after %d restarts PID 1 waits %v, the policy %v", n, got, want)
				}
			}
		})
	}
}

// TestJitter: replicas spread within ± jitter around the initial delay, each always at its place.
func TestJitter(t *testing.T) {
	low, high := uint64(800_000), uint64(1_200_000)
	seen := map[uint64]bool{}
	least, most := high, low
	for n := range 200 {
		masks := make([][]string, n+1)
		in := input(gpus(masks...), replicaNumber(n), backoff(time.Second, time.Minute, 2, 0.2))
		delay := property(t, in, "RestartUSec").(uint64)
		if again := property(t, in, "RestartUSec"); again != delay {
			t.Fatalf("r%d waits %d and then %v", n, delay, again)
		}
		if delay < low || delay > high {
			t.Errorf("r%d waits %d µs, want %d to %d", n, delay, low, high)
		}
		seen[delay], least, most = true, min(least, delay), max(most, delay)
	}
	if len(seen) < 100 || least > 850_000 || most < 1_150_000 {
		t.Errorf("200 replicas have %d delays between %d and %d µs", len(seen), least, most)
	}
	if got := property(t, input(backoff(time.Second, time.Minute, 2, 0)), "RestartUSec"); got != uint64(1_000_000) {
		t.Errorf("without jitter: %v", got)
	}
}

// TestNativeJitter: where PID 1 draws the random part itself, its span is the same.
func TestNativeJitter(t *testing.T) {
	in := input(systemd262, backoff(time.Second, time.Minute, 2, 0.2))
	if got := property(t, in, "RestartUSec"); got != uint64(800_000) {
		t.Errorf("RestartUSec is %v", got)
	}
	if got := property(t, in, "RestartRandomizedDelayUSec"); got != uint64(400_000) {
		t.Errorf("RestartRandomizedDelayUSec is %v", got)
	}
	if got := property(t, input(systemd262, backoff(time.Second, time.Minute, 2, 0)),
		"RestartRandomizedDelayUSec"); got != nil {
		t.Errorf("without jitter: %v", got)
	}
	if got := property(t, input(systemd257), "RestartRandomizedDelayUSec"); got != nil {
		t.Errorf("systemd 257 is sent RestartRandomizedDelayUSec %v", got)
	}
}

// TestStartLimit: the breaker's burst fits into the interval, or PID 1 would start the engine for
// ever.
func TestStartLimit(t *testing.T) {
	limit := func(failures int, window, stall time.Duration) change {
		return with(func(p *pool.Pool) {
			p.Restart.BreakerFailures, p.Restart.BreakerWindow, p.Health.StartTimeout = failures, window, stall
			p.Restart.Initial, p.Restart.Max, p.Restart.Factor, p.Restart.Jitter = time.Second, 4*time.Second, 2, 0
		})
	}
	cases := []struct {
		name     string
		limit    change
		interval time.Duration
		burst    uint32
	}{
		{"window_is_wide_enough", limit(3, time.Hour, time.Minute), time.Hour, 3},
		{"loads_and_delays_are_longer", limit(3, time.Minute, time.Minute), 3*time.Minute + 8*time.Second, 3}, // 1+2+4, and one more
		{"delay_stays_at_its_longest", limit(5, 0, 0), 16 * time.Second, 5},                                   // 1+2+4+4+4, and one more
		{"slow_classes_wait_longer", func(in *render.Input) {
			limit(3, time.Minute, time.Minute)(in)
			in.Pool.Restart.ClassFactor = 2
		}, 3*time.Minute + 15*time.Second, 3},
		{"no_limit", limit(0, time.Hour, time.Minute), 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := input(c.limit)
			if got := property(t, in, "StartLimitIntervalUSec"); got != uint64(c.interval/time.Microsecond) {
				t.Errorf("interval %v µs, want %v", got, c.interval)
			}
			if p := restarts.PolicyOf(in.Pool); p.BreakerWindow != c.interval || p.BreakerFailures != int(c.burst) {
				t.Errorf("the manager's breaker counts %d in %v, PID 1 %d in %v", p.BreakerFailures, p.BreakerWindow,
					c.burst, c.interval)
			}
			if got := property(t, in, "StartLimitBurst"); got != c.burst {
				t.Errorf("burst %v, want %d", got, c.burst)
			}
		})
	}
}

// TestStartTimeout: the backstop grows with the model, and is never below half an hour and the
// stall time.
func TestStartTimeout(t *testing.T) {
	size := func(bytes int64) change { return func(in *render.Input) { in.Staged.SizeBytes = bytes } }
	for bytes, want := range map[int64]time.Duration{0: 36 * time.Minute, 300_000_000_000: 36*time.Minute +
		1000*time.Minute, -1: 36 * time.Minute} {
		if got := property(t, input(size(bytes)), "TimeoutStartUSec"); got != uint64(want/time.Microsecond) {
			t.Errorf("%d bytes: %v µs, want %v", bytes, got, want)
		}
	}
}

// TestWithPolicy: a unit that is started after failures has PID 1 go on where they ended, and is
// the same unit otherwise.
func TestWithPolicy(t *testing.T) {
	row := restarts.UnitPolicy{Delay: 4 * time.Second, Longest: 2 * time.Minute, Starts: 3}
	for _, c := range []struct {
		name   string
		host   change
		policy restarts.UnitPolicy
		want   map[string]any // what differs; nil: it is absent
	}{
		{"from_the_beginning", systemd262, restarts.UnitPolicy{}, map[string]any{}},
		{"where_the_delay_is_constant", systemd252, row, map[string]any{
			"RestartUSec": uint64(4_000_000), "StartLimitBurst": uint32(3)}},
		{"where_it_grows", systemd257, row, map[string]any{"RestartUSec": uint64(4_000_000), "StartLimitBurst": uint32(3),
			"RestartSteps": uint32(5), "RestartMaxDelayUSec": uint64(120_000_000)}},
		{"where_pid_1_has_its_own_jitter", systemd262, row, map[string]any{"RestartUSec": uint64(4_000_000),
			"StartLimitBurst": uint32(3), "RestartSteps": uint32(5), "RestartMaxDelayUSec": uint64(120_000_000),
			"RestartRandomizedDelayUSec": nil}},
		{"at_the_longest_delay", systemd257, restarts.UnitPolicy{Delay: time.Minute, Longest: time.Minute, Starts: 1},
			map[string]any{"RestartUSec": uint64(60_000_000), "StartLimitBurst": uint32(1), "RestartSteps": nil,
				"RestartMaxDelayUSec": nil}},
		{"without_a_breaker", systemd252, restarts.UnitPolicy{Delay: time.Second, Longest: time.Minute}, map[string]any{
			"RestartUSec": uint64(1_000_000)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			unit, err := render.Render(input(c.host))
			if err != nil {
				t.Fatal(err)
			}
			got := unit.WithPolicy(c.policy)
			want := maps.Clone(values(unit))
			for name, value := range c.want {
				if want[name] = value; value == nil {
					delete(want, name)
				}
			}
			is := values(got)
			if !reflect.DeepEqual(is, want) || got.Name != unit.Name || got.SpecHash != unit.SpecHash {
				t.Errorf("got %v\nwant %v", is, want)
			}
			if again := values(unit); !reflect.DeepEqual(values(got.WithPolicy(restarts.UnitPolicy{})), values(got)) ||
				again["StartLimitBurst"] != property(t, input(c.host), "StartLimitBurst") {
				t.Error("the unit that it was made of has changed")
			}
		})
	}
}

// values are a unit's properties by name.
func values(u render.Unit) map[string]any {
	out := make(map[string]any)
	for _, p := range u.Properties() {
		out[p.Name] = p.Value
	}
	return out
}
