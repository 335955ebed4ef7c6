package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// The pace at which the API is asked.
const (
	// Poll is how often pools are read while no event comes: slots change without one.
	Poll = 2 * time.Second
	// Settle is how long several events may come before pools are read once for all of them.
	Settle = 100 * time.Millisecond
	// devicesEvery is how often devices are read: their memory, and a GPU that was added.
	devicesEvery = 10 * time.Second
	// modelsEvery is how often the cache is read, for which the manager lists a directory.
	modelsEvery = time.Minute
	// Credible is how long what a manager reported is believed after it stopped answering. A
	// restart of the manager takes less, and engines serve without it.
	Credible = 5 * time.Second
	// requestTime bounds one request to the manager.
	requestTime = 3 * time.Second
	// retryEvents is the pause before the stream of events is opened again.
	retryEvents = time.Second
)

// Manager is what is asked of a manager's API; *client.Client is one.
type Manager interface {
	GetPools(ctx context.Context, p client.GetPoolsParams) (client.Answer[wire.PoolList], error)
	GetDevices(ctx context.Context, p client.GetDevicesParams) (client.Answer[wire.DeviceList], error)
	GetModels(ctx context.Context, p client.GetModelsParams) (client.Answer[wire.ModelList], error)
	GetEvents(ctx context.Context, p client.GetEventsParams) (*client.Stream, error)
}

// Follower follows one manager.
type Follower struct {
	Manager Manager
	Models  bool // the cache of models is of interest
	Log     *slog.Logger

	etag      string
	state     State
	answered  time.Time // the last time; zero: never
	devicesAt time.Time
	modelsAt  time.Time
	modelsTag string
	failing   bool // the last request failed, and that is logged
}

// Run delivers the manager's state: at first, whenever it changes, and as unknown when the manager
// has not answered for Credible. It returns when ctx ends, after the goroutine that reads events.
func (f *Follower) Run(ctx context.Context, deliver func(State)) {
	events := make(chan struct{}, 1)
	var reader sync.WaitGroup
	reader.Go(func() { f.follow(ctx, events) })
	defer reader.Wait()

	tick := time.NewTicker(Poll)
	defer tick.Stop()
	for {
		f.read(ctx, deliver)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-events:
			if !pause(ctx, Settle) {
				return
			}
			drain(events)
		}
	}
}

// read asks for what may have changed, and delivers it where it did.
func (f *Follower) read(ctx context.Context, deliver func(State)) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	pools, err := f.Manager.GetPools(ctx, client.GetPoolsParams{IfNoneMatch: f.etag})
	changed := err == nil && !pools.NotModified
	if err == nil && time.Since(f.devicesAt) >= devicesEvery {
		var devices client.Answer[wire.DeviceList]
		if devices, err = f.Manager.GetDevices(ctx, client.GetDevicesParams{}); err == nil {
			f.state.Devices, f.devicesAt, changed = devices.Value, time.Now(), true
		}
	}
	if err != nil {
		f.unanswered(ctx, err, deliver)
		return
	}
	if f.failing {
		f.failing = false
		f.Log.Info("the manager answers again")
	}
	f.answered = time.Now()
	changed = f.readModels(ctx) || changed
	if changed || !f.state.Known {
		if !pools.NotModified {
			f.state.Pools, f.etag = pools.Value.Pools, pools.ETag
		}
		f.state.Known = true
		deliver(f.state)
	}
}

// readModels asks for the cache now and then, and reports whether it changed. One that cannot be
// read is believed to be as it was: the rest of what the manager reports does not depend on it.
func (f *Follower) readModels(ctx context.Context) bool {
	if !f.Models || time.Since(f.modelsAt) < modelsEvery {
		return false
	}
	f.modelsAt = time.Now()
	models, err := f.Manager.GetModels(ctx, client.GetModelsParams{IfNoneMatch: f.modelsTag})
	if err != nil {
		f.Log.Debug("the manager does not list the cache of models: " + err.Error())
		return false
	}
	if models.NotModified {
		return false
	}
	f.state.Models, f.modelsTag = models.Value.Models, models.ETag
	if f.state.Models == nil {
		f.state.Models = []wire.CachedModel{}
	}
	return true
}

// unanswered is a request that failed. Once nothing is believed any longer, all is read again.
func (f *Follower) unanswered(ctx context.Context, err error, deliver func(State)) {
	if ctx.Err() == context.Canceled {
		return
	}
	if !f.failing {
		f.failing = true
		f.Log.Warn(fmt.Sprintf("could not ask the manager; what it last reported is believed for %s: %v",
			Credible, err))
	}
	if f.state.Known && time.Since(f.answered) >= Credible {
		f.state, f.etag, f.devicesAt = State{}, "", time.Time{}
		f.modelsTag, f.modelsAt = "", time.Time{}
		f.Log.Warn("the manager does not answer; nothing is published of this host")
		deliver(f.state)
	}
}

// follow reads events until ctx ends, and reports that there was one.
func (f *Follower) follow(ctx context.Context, happened chan<- struct{}) {
	for ctx.Err() == nil {
		if stream, err := f.Manager.GetEvents(ctx, client.GetEventsParams{}); err == nil {
			f.followStream(stream, happened)
		}
		pause(ctx, retryEvents)
	}
}

func (f *Follower) followStream(stream *client.Stream, happened chan<- struct{}) {
	defer stream.Close()
	for {
		if _, err := stream.Next(); err != nil {
			return // the polls report a manager that is gone
		}
		select {
		case happened <- struct{}{}:
		default:
		}
	}
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func drain(events <-chan struct{}) {
	select {
	case <-events:
	default:
	}
}
