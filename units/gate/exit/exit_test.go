package exit

import "testing"

func TestHeardIsInTheStatus(t *testing.T) {
	seen := map[int]bool{}
	for _, base := range []int{Stalled, Late} {
		for h := Nothing; h < lastHeard; h++ {
			status := With(base, h)
			if b, got := Parse(status); b != base || got != h || status <= 0 || status >= 200 || seen[status] {
				t.Errorf("status %d of %d and %d is read as %d and %d", status, base, h, b, got)
			}
			seen[status] = true
		}
	}
	for _, status := range []int{Ready, EngineGone, Background, With(EngineGone, TLS), With(Stalled, lastHeard), 255} {
		if base, h := Parse(status); base != status || h != Nothing {
			t.Errorf("status %d is read as %d and %d", status, base, h)
		}
	}
}
