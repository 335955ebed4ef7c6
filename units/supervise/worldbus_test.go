package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
)

// delivery is an update under way, or where passed is set, what waits for those before it.
type delivery struct {
	update systemd.Update
	passed chan struct{}
}

// send sends an update, as PID 1 does. w.mu is held.
func (w *world) send(u systemd.Update) {
	w.sent++
	u.Position = w.sent
	w.queue <- delivery{update: u}
}

// pass waits until the updates that are older than an answer were delivered.
func (w *world) pass(ctx context.Context) {
	passed := make(chan struct{})
	w.queue <- delivery{passed: passed}
	select {
	case <-passed:
	case <-ctx.Done():
	}
}

// delay is how long a message or a call is under way.
func (w *world) delay() {
	w.mu.Lock()
	lag := w.lag
	w.mu.Unlock()
	if lag != nil {
		time.Sleep(lag())
	}
}

func (w *world) Run(ctx context.Context, deliver func(systemd.Update)) error {
	w.sync()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case d := <-w.queue:
			if d.passed != nil {
				close(d.passed)
				continue
			}
			if d.update.Kind == 0 {
				return d.update.Err
			}
			w.delay()
			deliver(d.update)
		}
	}
}
