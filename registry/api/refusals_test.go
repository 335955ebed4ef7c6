package api

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// counted is a connection that notes when it was closed.
type counted struct {
	net.Conn
	closed func()
}

func (c counted) Close() error { c.closed(); return nil }

// TestRefusalsAreSpread: of connections that were refused in one moment none is closed within half
// a second, all are within one and a half, and no moment has many of them. Of many it takes four
// times as long.
func TestRefusalsAreSpread(t *testing.T) {
	for name, c := range map[string]struct {
		refused, moments int
		least, most      time.Duration
	}{
		"few":  {refusedMany, 30, 500 * time.Millisecond, 1550 * time.Millisecond},
		"many": {2000, 60, 500 * time.Millisecond, 6050 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{refused: refusals{wake: make(chan struct{}, 1)}}
				began, closed := time.Now(), map[time.Duration]int{}
				for range c.refused {
					s.refused.add(counted{closed: func() { closed[time.Since(began)]++ }})
				}
				defer s.tidy(t.Context())()
				time.Sleep(10 * time.Second)
				synctest.Wait()
				total, early := 0, 0
				for at, n := range closed {
					total += n
					if at < 1900*time.Millisecond {
						early += n
					}
					if at < c.least || at > c.most || n > max(c.refused/10, 20) {
						t.Errorf("%d were closed after %s", n, at)
					}
				}
				if total != c.refused || len(closed) < c.moments || early > refusedMany {
					t.Errorf("%d were closed, at %d times, %d of them early", total, len(closed), early)
				}
				// Once more, after it was at rest.
				s.refused.add(counted{closed: func() { total++ }})
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if total != c.refused+1 {
					t.Error("one that was refused later is still open")
				}
			})
		})
	}
}

// TestRefusalsAreBounded: those beyond the bound are closed at once, and the end of the server
// closes all.
func TestRefusalsAreBounded(t *testing.T) {
	closed := 0
	r := refusals{wake: make(chan struct{}, 1)}
	for range refusedMost + 10 {
		r.add(counted{closed: func() { closed++ }})
	}
	if closed != 10 {
		t.Errorf("%d were closed at once", closed)
	}
	r.closeAll()
	if closed != refusedMost+10 || r.open != 0 {
		t.Errorf("%d of %d were closed, %d are open", closed, refusedMost+10, r.open)
	}
}
