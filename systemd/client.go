package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// Options of a Client.
type Options struct {
	Pattern string       // glob of the unit names to watch, as systemctl(1) takes it
	Address string       // D-Bus address; empty: the system bus
	Keep    []string     // further properties of watched units for Status.Properties
	Log     *slog.Logger // nil: silent
}

// UpdateKind is what an Update carries.
type UpdateKind int

const (
	// Synced carries in Units everything that matches, sorted by name, and the Features. It comes
	// after each (re)connect, and after PID 1 executed itself again; a unit that it lacks is gone.
	Synced UpdateKind = iota + 1
	// Changed carries the new Unit.
	Changed
	// Removed carries the Name of a unit that PID 1 has unloaded.
	Removed
	// Lost carries in Err why nothing is known until the next Synced.
	Lost
)

func (k UpdateKind) String() string {
	switch k {
	case Synced:
		return "synced"
	case Changed:
		return "changed"
	case Removed:
		return "removed"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("UpdateKind(%d)", int(k))
}

// Update is a change of the watched units. Of two updates the later has the greater Position.
type Update struct {
	Kind     UpdateKind
	Position Position
	Units    []Status
	Unit     Status
	Name     string
	Features Features
	Err      error
}

// Position orders what PID 1 reported, updates and answers alike: the greater one is newer. It
// continues over a reconnection.
type Position uint64

// positionBits are those of a position within one connection.
const positionBits = 40

// delivery is an update for the consumer, or, where passed is set, the news that the consumer has
// every update before it.
type delivery struct {
	update Update
	passed chan<- struct{}
}

// Client is a client of PID 1. Its methods may be called from any goroutine while Run runs; before
// the first Synced, and between Lost and the next Synced, they return ErrDisconnected at once.
type Client struct {
	options Options
	calls   atomic.Uint64
	lost    atomic.Uint64 // times that a connection, or PID 1 on it, had served and was gone
	dials   Position      // counts connections; of Run's goroutine

	mu   sync.Mutex
	link *link // nil while there is no synchronised connection
}

// NewClient makes a client; Run connects it.
func NewClient(o Options) *Client {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{options: o}
}

// Lost returns how often PID 1 could no longer be followed: the connection ended, or PID 1 executed
// itself again.
func (c *Client) Lost() uint64 { return c.lost.Load() }

// Calls returns the number of method calls made so far, to PID 1 and to the bus.
func (c *Client) Calls() uint64 { return c.calls.Load() }

// Reconnection starts after reconnectFirst and doubles up to reconnectMost, each time with up to
// half of it taken off at random, so that the clients of a restarted bus do not come all at once.
const (
	reconnectFirst = 50 * time.Millisecond
	reconnectMost  = 2 * time.Second
)

// Run keeps the connection and watches the units until ctx ends; then it returns nil, with every
// goroutine ended and every call returned. deliver is called in order from one goroutine, which is
// not the one that reads the connection: a slow consumer delays neither jobs nor signals. An error
// means that the options are invalid.
func (c *Client) Run(ctx context.Context, deliver func(Update)) error {
	if _, err := path.Match(globOf(c.options.Pattern), ""); err != nil || c.options.Pattern == "" {
		return fmt.Errorf("pattern %q of the units to watch is not a valid glob", c.options.Pattern)
	}
	updates := newQueue[delivery]()
	var consumer sync.WaitGroup
	consumer.Go(func() { pump(ctx, updates, deliver) })
	defer consumer.Wait()

	lost, served := false, false
	emit := func(d delivery) {
		if d.passed == nil {
			if d.update.Kind == Lost && lost {
				return
			}
			if lost = d.update.Kind == Lost; lost && served {
				c.lost.Add(1)
			}
			served = !lost && (served || d.update.Kind == Synced)
		}
		updates.push(d)
	}
	delay := reconnectFirst
	for {
		synced, err := c.connectOnce(ctx, emit)
		if ctx.Err() != nil {
			return nil
		}
		level := slog.LevelWarn
		if lost {
			level = slog.LevelDebug // a further attempt that failed
		}
		c.options.Log.Log(ctx, level, "connection to PID 1 lost", "error", err)
		emit(delivery{update: Update{Kind: Lost, Position: (c.dials + 1) << positionBits, Err: err}})
		if synced {
			delay = reconnectFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay - rand.N(delay/2)):
		}
		delay = min(2*delay, reconnectMost)
	}
}

// pump delivers updates until ctx ends.
func pump(ctx context.Context, updates *queue[delivery], deliver func(Update)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-updates.wake:
		}
		for _, d := range updates.take() {
			switch {
			case ctx.Err() != nil:
				return
			case d.passed != nil:
				close(d.passed)
			default:
				deliver(d.update)
			}
		}
	}
}

// connectOnce runs one connection; synced reports whether it came as far as a Synced update.
func (c *Client) connectOnce(ctx context.Context, emit func(delivery)) (synced bool, err error) {
	c.dials++
	l, err := dial(ctx, c.options.Address, &c.calls)
	if err != nil {
		return false, err
	}
	defer l.close()
	l.position = c.dials << positionBits
	s := &session{
		link: l, log: c.options.Log, pattern: c.options.Pattern, keep: c.options.Keep,
		emit: func(d delivery) {
			synced = synced || d.update.Kind == Synced
			emit(d)
		},
		publish:  c.publish,
		replies:  make(chan *dbus.Call, window),
		inflight: make(map[*dbus.Call]request),
	}
	err = s.run(ctx)
	return synced, err
}

func (c *Client) publish(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
}

func (c *Client) current(member string) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return nil, fmt.Errorf("%s: %w", member, ErrDisconnected)
	}
	return c.link, nil
}

// expectJob is current for a call that returns a job. It registers the job before publish can
// remove the link, and thus before its jobs are lost: otherwise a caller that got the link just
// before the loss would wait for a job whose end was not received.
func (c *Client) expectJob(member string) (l *link, epoch int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return nil, 0, fmt.Errorf("%s: %w", member, ErrDisconnected)
	}
	return c.link, c.link.jobs.expect(), nil
}
