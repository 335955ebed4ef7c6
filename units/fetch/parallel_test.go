package fetch

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
)

// TestSideBySide: the ranges of one large file, and several files, are fetched by as many
// connections as the request permits, and not by one further.
func TestSideBySide(t *testing.T) {
	for name, ref := range map[string]string{
		"one_large_file": "hf:org/model/dir/big.safetensors",
		"several_files":  "hf:org/model:Q4_K_M",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, repo())
			s.Add(&hub.Fault{On: hub.CDN, Kind: hub.Slow, N: 100}) // so that none ends meanwhile
			r := s.request(ref)
			r.Connections = 3
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan outcome, 1)
			set := quick()
			set.stall = time.Minute
			go func() { done <- s.fetch(ctx, r, Options{}, set) }()
			asked := func() (parts int) {
				for _, one := range s.Requests() {
					if strings.HasPrefix(one, "GET cdn.test") {
						parts++
					}
				}
				return parts
			}
			for until := time.Now().Add(20 * time.Second); asked() < 3 && time.Now().Before(until); {
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			if n := asked(); n != 3 {
				t.Errorf("%d connections, want 3", n)
			}
			cancel()
			<-done
		})
	}
}
