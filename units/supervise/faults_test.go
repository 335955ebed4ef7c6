package supervise

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// brokenJournal delivers one list of cursors after the other, and breaks off after each but the
// last.
type brokenJournal struct {
	parts [][]string
	began []systemd.JournalQuery
}

func (b *brokenJournal) Follow(ctx context.Context, q systemd.JournalQuery, deliver func(systemd.JournalEntry)) error {
	b.began = append(b.began, q)
	for _, cursor := range b.parts[len(b.began)-1] {
		deliver(systemd.JournalEntry{Cursor: cursor})
	}
	if len(b.began) < len(b.parts) {
		return errors.New("journalctl ended")
	}
	<-ctx.Done()
	return nil
}

func (b *brokenJournal) Read(context.Context, systemd.JournalQuery, int) ([]systemd.JournalEntry, error) {
	return nil, nil
}

// TestTheLogIsFollowedWithoutGaps: a break neither skips lines nor repeats any.
func TestTheLogIsFollowedWithoutGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		j := &brokenJournal{parts: [][]string{{}, {"1", "2"}, {}, {"3"}}}
		var got []string
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			followLog(ctx, j, slog.New(slog.DiscardHandler), systemd.JournalQuery{}, func(e systemd.JournalEntry) {
				got = append(got, e.Cursor)
			})
		}()
		time.Sleep(time.Hour)
		cancel()
		<-done
		if diff := cmp.Diff([]string{"1", "2", "3"}, got); diff != "" {
			t.Error(diff)
		}
		var after []string
		for _, q := range j.began {
			after = append(after, q.After)
			if !q.Since.Equal(start) {
				t.Errorf("it begins at %s, want %s, when there was something to follow", q.Since, start)
			}
		}
		if diff := cmp.Diff([]string{"", "", "2", "2"}, after); diff != "" {
			t.Error(diff)
		}
	})
}
