package chaos

import "testing"

// TestRatio: the pace of a machine is how many times longer it took for the same work, rounded up.
func TestRatio(t *testing.T) {
	for _, c := range []struct {
		name, here, there string
		want              pace // 0: an error
	}{
		{"as_fast", "1000\n", "1000\n", 1},
		{"faster", "1000\n", "400\n", 1},
		{"a_little_slower", "1000\n", "1001\n", 2},
		{"ten_times", "1000\n", "10000\n", 10},
		{"too_slow", "1000\n", "40001\n", 0},
		{"no_work", "0\n", "1000\n", 0},
		{"no_number", "1000\n", "witness: killed\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ratio(c.here, c.there)
			if got != c.want || (err != nil) != (c.want == 0) {
				t.Errorf("%d, %v; want %d", got, err, c.want)
			}
		})
	}
}
