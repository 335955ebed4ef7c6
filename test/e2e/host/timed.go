package host

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Timings are what the hostile client measured of one thing that it did again and again, in
// milliseconds.
type Timings struct {
	P50      float64  `json:"p50_ms"`
	P90      float64  `json:"p90_ms"`
	P99      float64  `json:"p99_ms"`
	Failed   int      `json:"failed"`
	Failures []string `json:"failures"`
}

func (t Timings) String() string {
	return fmt.Sprintf("p50 %.1f p90 %.1f p99 %.1f ms", t.P50, t.P90, t.P99)
}

// Timed has the hostile client, which is at that path in the machine, do each thing n times, in
// turn: a command with its arguments, or "ask SOCKET PATH".
func (h *Host) Timed(ctx context.Context, hostile string, n int, things [][]string) ([]Timings, error) {
	args := []string{hostile, "time", strconv.Itoa(n)}
	for i, what := range things {
		if i > 0 {
			args = append(args, "--")
		}
		args = append(args, what...)
	}
	out, err := h.Run(ctx, args...)
	if err != nil {
		return nil, err
	}
	var seen []Timings
	for decoder := json.NewDecoder(strings.NewReader(out)); decoder.More(); {
		var one Timings
		if err := decoder.Decode(&one); err != nil {
			return nil, fmt.Errorf("%s: %w", out, err)
		}
		seen = append(seen, one)
	}
	if len(seen) != len(things) {
		return nil, fmt.Errorf("%d things were timed, not %d: %s", len(seen), len(things), out)
	}
	return seen, nil
}
