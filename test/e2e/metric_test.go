//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// engineMetric returns the value of a pool's one series of a metric; the test fails where there is
// none.
func (s *site) engineMetric(name, pool string) float64 {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	value, err := s.engineMetricNow(ctx, name, pool)
	if err != nil {
		s.t.Fatal(err)
	}
	return value
}

func (s *site) engineMetricNow(ctx context.Context, name, pool string) (float64, error) {
	a, err := s.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	var found []string
	for line := range strings.Lines(string(a.Body)) {
		if strings.HasPrefix(line, name+"{") && strings.Contains(line, fmt.Sprintf("pool_id=%q", pool)) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d series of %s for pool %s: %q", len(found), name, pool, found)
	}
	return strconv.ParseFloat(found[0][strings.LastIndex(found[0], " ")+1:], 64)
}
