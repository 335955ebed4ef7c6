package api

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadlines: a read ends at the newest deadline, however many were set before, and no
// sooner.
func TestDeadlines(t *testing.T) {
	type step struct {
		after time.Duration // since the step before
		set   time.Duration // from then; 0: none, negative: in the past
	}
	for _, c := range []struct {
		name  string
		steps []step
		ends  time.Duration // after the last step; 0: never
	}{
		{"one", []step{{0, 5 * time.Second}}, 5 * time.Second},
		{"a_later_one", []step{{0, 5 * time.Second}, {time.Second, 10 * time.Second}}, 10 * time.Second},
		{"an_earlier_one", []step{{0, 75 * time.Second}, {time.Second, 5 * time.Second}}, 5 * time.Second},
		{"none_after_one", []step{{0, 5 * time.Second}, {time.Second, 0}}, 0},
		{"none_after_it_passed", []step{{0, 5 * time.Second}, {6 * time.Second, 0}}, 0},
		{"one_after_it_passed", []step{{0, 5 * time.Second}, {6 * time.Second, 2 * time.Second}}, 2 * time.Second},
		{"in_the_past", []step{{0, 5 * time.Second}, {time.Second, -time.Second}}, time.Nanosecond},
		{"none_after_one_in_the_past", []step{{0, -time.Second}, {0, 0}}, 0},
		{"one_after_one_in_the_past", []step{{0, 5 * time.Second}, {0, -time.Second}, {time.Second, 9 * time.Second}}, 9 * time.Second},
		{"as_net_http_sets_them_for_three_requests", []step{
			{0, 75 * time.Second}, {0, 0}, {0, 5 * time.Second}, {0, 10 * time.Second}, {time.Second, -1}, {0, 0},
			{0, 75 * time.Second}, {3 * time.Second, 0}, {0, 5 * time.Second}, {0, 10 * time.Second}, {time.Second, -1}, {0, 0},
			{0, 75 * time.Second}, {3 * time.Second, 0}, {0, 5 * time.Second}, {0, 10 * time.Second}}, 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				d := &deadline{set: ours.SetReadDeadline}
				defer d.stop()
				for _, s := range c.steps {
					time.Sleep(s.after)
					at := time.Now().Add(s.set)
					if s.set == 0 {
						at = time.Time{}
					}
					if err := d.Set(at); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				late := time.AfterFunc(time.Hour, func() { _, _ = theirs.Write([]byte{1}) })
				defer late.Stop()
				_, err := ours.Read(make([]byte, 1))
				took := time.Since(began)
				switch {
				case c.ends == 0 && (err != nil || took != time.Hour):
					t.Errorf("the read ended after %s: %v", took, err)
				case c.ends == 0:
					return
				case !errors.Is(err, os.ErrDeadlineExceeded) ||
					took.Round(time.Millisecond) != c.ends.Round(time.Millisecond):
					t.Errorf("the read ended after %s: %v; want %s", took, err, c.ends)
				}
			})
		})
	}
}
