package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// scriptedFeed is a session by its number: what each step of it does.
type scriptedFeed struct {
	connect, list, watch func() error // nil: it works; the watch then lasts until ctx ends
	lasts                time.Duration
	closed               *int
}

// feedOf is a session that follows a script.
type feedOf struct{ script *scriptedFeed }

func (f feedOf) list(_ context.Context, page func([]view.KV)) (int64, error) {
	page([]view.KV{{Key: "1"}})
	if f.script.list != nil {
		return 0, f.script.list()
	}
	page([]view.KV{{Key: "2"}})
	return 7, nil
}

func (f feedOf) watch(ctx context.Context, from int64, deliver func(view.Batch)) error {
	if from != 8 {
		return fmt.Errorf("watched from %d, which is not behind the list", from)
	}
	deliver(view.Batch{Kind: view.Changed, Revision: 9})
	if f.script.watch == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	wait(ctx, f.script.lasts)
	return f.script.watch()
}

func (f feedOf) close() { *f.script.closed++ }

// TestReaderSessions: what a reader delivers, and when, over each way in which a session can end.
func TestReaderSessions(t *testing.T) {
	fails := func(err error) func() error { return func() error { return err } }
	boom := fails(errors.New("boom"))
	names := map[view.Kind]string{view.Begin: "begin", view.Page: "page", view.End: "end", view.Changed: "changed",
		view.Lost: "lost"}
	whole := "begin page page end changed"
	for _, c := range []struct {
		name     string
		sessions []scriptedFeed // and then ones that work
		want     string         // "SECONDS kind …" for each time
	}{
		{"a_list_and_a_watch", nil, "0.0 " + whole},
		{"no_connection", []scriptedFeed{{connect: boom}, {connect: boom}}, "0.0 lost, 0.1 lost, 0.3 " + whole},
		{"a_list_that_breaks", []scriptedFeed{{list: boom}}, "0.0 begin page lost, 0.1 " + whole},
		{"a_watch_that_ends", []scriptedFeed{{watch: boom, lasts: time.Second}}, "0.0 " + whole + ", 1.0 lost, 1.1 " + whole},
		{"sessions_that_end_at_once_are_made_less_often", []scriptedFeed{{watch: boom}, {watch: boom}, {watch: boom}},
			"0.0 " + whole + " lost, 0.1 " + whole + " lost, 0.3 " + whole + " lost, 0.7 " + whole},
		{"one_that_listed_is_followed_by_another_within_4_s", slices.Repeat([]scriptedFeed{{watch: boom, lasts: time.Second}}, 8),
			"0.0 " + whole + ", 1.0 lost, 1.1 " + whole + ", 2.1 lost, 2.3 " + whole + ", 3.3 lost, 3.7 " + whole +
				", 4.7 lost, 5.5 " + whole + ", 6.5 lost, 8.1 " + whole + ", 9.1 lost, 12.3 " + whole +
				", 13.3 lost, 17.3 " + whole + ", 18.3 lost, 22.3 " + whole},
		{"one_that_was_good_begins_again_at_once", []scriptedFeed{{watch: boom}, {watch: boom},
			{watch: boom, lasts: 20 * time.Second}}, "0.0 " + whole + " lost, 0.1 " + whole + " lost, 0.3 " + whole +
			", 20.3 lost, 20.4 " + whole},
		{"a_compaction_is_no_failure", []scriptedFeed{{watch: fails(rpctypes.ErrCompacted)},
			{watch: fails(rpctypes.ErrCompacted)}}, "0.0 " + whole + " lost, 0.1 " + whole + " lost, 0.2 " + whole},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, opened, closed := time.Now(), 0, 0
				r := &Reader{random: func() float64 { return 0 }}
				left := c.sessions
				r.connect = func(time.Duration) (feed, error) {
					s := scriptedFeed{}
					if len(left) > 0 {
						s, left = left[0], left[1:]
					}
					if s.connect != nil {
						return nil, s.connect()
					}
					opened++
					s.closed = &closed
					return feedOf{&s}, nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				var got []string
				last := ""
				r.Watch(ctx, func(b view.Batch) {
					at := fmt.Sprintf("%.1f", time.Since(begun).Seconds())
					if at == last {
						got[len(got)-1] += " " + names[b.Kind]
						return
					}
					last, got = at, append(got, at+" "+names[b.Kind])
				})
				if text := strings.Join(got, ", "); text != c.want {
					t.Errorf("delivered\n%s, want\n%s", text, c.want)
				}
				if time.Since(begun) != time.Minute || opened != closed {
					t.Errorf("it took %s, and %d of %d connections are open", time.Since(begun), opened-closed, opened)
				}
			})
		})
	}
}

// TestReaderPause: it grows, has a bound, which is higher where lists break off, and is never
// shorter than half of it.
func TestReaderPause(t *testing.T) {
	for brokeOff, most := range map[bool]time.Duration{false: longestAway, true: longestRetry} {
		for failed := range 100 {
			longest := (&Reader{random: func() float64 { return 0 }}).pause(failed, brokeOff)
			shortest := (&Reader{random: func() float64 { return 0.999 }}).pause(failed, brokeOff)
			if longest > most || longest < firstReread || shortest < longest/2 || shortest > longest {
				t.Errorf("after %d failures: %s to %s", failed, shortest, longest)
			}
			if failed == 99 && longest != most {
				t.Errorf("it grows to %s, want %s", longest, most)
			}
		}
	}
}
