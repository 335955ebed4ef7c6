// Package serve is the server of pool-gpu: it answers the requests of package wire from NVML, which
// it reaches through Library only.
//
// It owns when the driver is sampled (only while there is a follower or a request, one sample for
// all), what happens when the driver is missing, is replaced or hangs, and the memory reservations
// of units that are loading. It must not decide what a fault means for an engine, start anything,
// or link NVML.
//
// A call into a faulty driver may never return: Run's loop owns all state and never calls the
// library, the worker makes the calls, and the loop detects when one does not return.
package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// DefaultInterval is the time between samples unless a follower requests another one.
const DefaultInterval = 2 * time.Second

// Bounds of a follower's interval, of the time to read a request and to write a line, and of the
// number of connections.
const (
	shortestInterval = 250 * time.Millisecond
	longestInterval  = time.Minute
	requestWithin    = 5 * time.Second
	writeWithin      = 5 * time.Second
	mostConnections  = 256
	// queue is how many lines a follower may lag before it is dropped.
	queue = 32
)

// ErrMismatch ends Run when the library in this process and the kernel module have had different
// versions for some time: NVML cannot be unloaded, so only a new process can load the new library.
var ErrMismatch = errors.New("the driver was replaced: a new process is needed to load its library")

// HungError ends Run when a call into the driver has not returned for stallExit; a new process may
// work.
type HungError struct {
	Call  string
	Since time.Time
}

func (e *HungError) Error() string {
	return fmt.Sprintf("the call %s has not returned since %s", e.Call, e.Since.Format(time.RFC3339))
}

// Options of Run. Library must be set.
type Options struct {
	Library   Library
	Log       *slog.Logger                 // nil: none
	Peer      func(net.Conn) (Peer, error) // nil: PeerOf
	Group     func(pid int) owner.Group    // nil: of this host
	Populated func(owner.Group) bool       // nil: of this host
	Lives     func(pid int) bool           // nil: of this host
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Peer == nil {
		o.Peer = PeerOf
	}
	if o.Group == nil {
		o.Group = owner.Tree{}.Of
	}
	if o.Populated == nil {
		o.Populated = owner.Tree{}.Populated
	}
	if o.Lives == nil {
		o.Lives = owner.Tree{}.Lives
	}
	return o
}

// Run serves l until ctx ends, closes it and returns nil. It returns ErrMismatch or a *HungError if
// a new process must take over; a goroutine that hangs in the driver is leaked then, and the
// process should exit.
func Run(ctx context.Context, l net.Listener, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h := newHub(o.withDefaults())
	var connections sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	connections.Go(func() { h.accept(ctx, l, &connections) })
	err := h.run(ctx)
	cancel()
	connections.Wait()
	return err
}

// accept accepts connections until ctx ends.
func (h *hub) accept(ctx context.Context, l net.Listener, connections *sync.WaitGroup) {
	places := make(chan struct{}, mostConnections)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil { // for example out of file descriptors: retry
			h.o.Log.Warn("could not accept a connection", "err", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case places <- struct{}{}:
			connections.Go(func() {
				defer func() { <-places }()
				h.serve(ctx, conn)
			})
		default:
			h.o.Log.Warn("too many connections: refused one", "most", mostConnections)
			conn.Close()
		}
	}
}

// client is one connection with its request. The loop sends lines and closes the channel; the
// connection's goroutine writes them.
type client struct {
	req   wire.Request
	group owner.Group // of the caller, or of the unit that it names
	lines chan []byte
	conn  net.Conn

	// Owned by the loop.
	following bool      // a follower that had a snapshot
	sent      time.Time // the last line
}

// serve reads the request and writes lines until the loop closes the channel or the peer
// disconnects.
func (h *hub) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c := &client{lines: make(chan []byte, queue), conn: conn}
	if err := h.readRequest(c); err != nil {
		if !errors.Is(err, io.EOF) {
			_ = c.write(encode(wire.Reply{Error: err.Error()}))
		}
		return
	}
	select {
	case h.joined <- c:
	case <-ctx.Done():
		return
	}
	gone := make(chan struct{})
	if c.req.Op == wire.OpFollow {
		var reader sync.WaitGroup
		reader.Go(func() { _, _ = io.Copy(io.Discard, conn); close(gone) })
		defer reader.Wait()
		defer conn.Close()
	}
	c.copyLines(ctx, gone)
	select {
	case h.left <- c:
	case <-ctx.Done():
	}
}

// copyLines writes what the loop sends until the channel is closed or the peer disconnects.
func (c *client) copyLines(ctx context.Context, gone <-chan struct{}) {
	for {
		select {
		case line, ok := <-c.lines:
			if !ok || c.write(line) != nil {
				return
			}
		case <-gone:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *client) write(line []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeWithin)); err != nil {
		return err
	}
	_, err := c.conn.Write(line)
	return err
}

// readRequest reads the first line and the peer's credentials. Its errors are sent to the peer.
func (h *hub) readRequest(c *client) error {
	if err := c.conn.SetReadDeadline(time.Now().Add(requestWithin)); err != nil {
		return io.EOF
	}
	line, err := bufio.NewReader(io.LimitReader(c.conn, wire.MaxLine)).ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) == wire.MaxLine:
		return fmt.Errorf("the request is longer than %d bytes", wire.MaxLine)
	case err != nil && len(line) == 0:
		return io.EOF // no request
	case err != nil:
		return fmt.Errorf("the request is not a whole line: %w", err)
	}
	if c.req, err = parse(line); err != nil {
		return err
	}
	_ = c.conn.SetReadDeadline(time.Time{}) // a closed connection fails at the next use
	peer, err := h.o.Peer(c.conn)
	if err != nil {
		return err
	}
	return h.admit(c, peer)
}

// parse reads a request and checks its form.
func parse(line []byte) (wire.Request, error) {
	var req wire.Request
	if err := json.Unmarshal(line, &req); err != nil {
		return req, fmt.Errorf("the request is not a JSON object of protocol %d: %w", wire.Version, err)
	}
	if req.Version != wire.Version {
		return req, fmt.Errorf("pool-gpu has protocol version %d, the request has %d", wire.Version,
			req.Version)
	}
	switch req.Op {
	case wire.OpFollow, wire.OpSnapshot, wire.OpRelease:
	case wire.OpReserve:
		if len(req.Needs) == 0 {
			return req, errors.New("the request names no device")
		}
	case wire.OpHeld:
		if len(req.Devices) == 0 {
			return req, errors.New("the request names no device")
		}
	default:
		return req, fmt.Errorf("unknown operation %q", req.Op)
	}
	return req, nil
}

// admit checks the caller's permission and finds its unit: every caller that could connect may
// read, and only root may reserve memory for a unit.
func (h *hub) admit(c *client, peer Peer) error {
	writes := c.req.Op == wire.OpRelease || c.req.Op == wire.OpReserve && !c.req.DryRun
	if writes && peer.UID != 0 {
		return fmt.Errorf("only root may %s memory; the caller is user %d", c.req.Op, peer.UID)
	}
	if writes || c.req.Op == wire.OpReserve || c.req.Op == wire.OpHeld {
		c.group = h.o.Group(peer.PID)
		if !c.group.Engine {
			c.group = owner.Group{Unit: c.req.Unit}
		}
		if (writes || c.req.Op == wire.OpHeld) && c.group.Unit == "" {
			return fmt.Errorf("process %d is not in a unit of %s, and the request names no unit", peer.PID, owner.Slice)
		}
	}
	return nil
}

// encode returns the line of a reply, or of an error if the reply is too long.
func encode(r wire.Reply) []byte {
	r.Version = wire.Version
	line, err := json.Marshal(r)
	if err == nil && len(line) >= wire.MaxLine {
		err = fmt.Errorf("the answer has %d bytes, more than the limit of %d", len(line), wire.MaxLine)
	}
	if err != nil {
		line, _ = json.Marshal(wire.Reply{Version: wire.Version, Error: err.Error()})
	}
	return append(line, '\n')
}

// noDriver returns the snapshot of a host whose driver is unavailable.
func noDriver(p *nvml.Problem, now time.Time) *nvml.Snapshot {
	return &nvml.Snapshot{Taken: now, Driver: nvml.Driver{Problem: p}}
}
