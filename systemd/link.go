package systemd

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sync/semaphore"
)

const (
	busName          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = "org.freedesktop.systemd1.Manager"
	unitInterface    = "org.freedesktop.systemd1.Unit"
	serviceInterface = "org.freedesktop.systemd1.Service"
	propsInterface   = "org.freedesktop.DBus.Properties"
	driverName       = "org.freedesktop.DBus"
	driverPath       = "/org/freedesktop/DBus"
	driverInterface  = "org.freedesktop.DBus"

	// systemBusAddress is the well-known address of the system bus (D-Bus Specification,
	// "Well-known Message Bus Instances"), by its path under /run.
	systemBusAddress = "unix:path=/run/dbus/system_bus_socket"

	// handshakeTimeout bounds authentication and Hello: the time that dbus-daemon itself gives a
	// client (auth_timeout in system.conf).
	handshakeTimeout = 30 * time.Second

	// callBudget bounds the bytes, with the kernel's overhead, of the calls that are not answered.
	// With the session's own window it stays below the default socket buffer
	// (net.core.wmem_default, 212992), so that a write to a bus that has stopped reading does not
	// block: godbus writes under a lock. And it stays below the 128 unanswered calls that
	// dbus-daemon allows a client of the system bus (max_replies_per_connection, dbus-daemon(1)).
	callBudget = 64 << 10

	// callOverhead is what the kernel charges for a small message besides its text.
	callOverhead = 1 << 10
)

// link is one connection to the bus. It ends by itself when the peer closes it, and is never
// reused.
type link struct {
	conn   *dbus.Conn
	ctx    context.Context // of the connection's life
	cancel context.CancelFunc
	calls  *atomic.Uint64

	position   Position          // of the connection's begin
	interfaces map[string]string // of each property of a service unit; known before callers get the link

	signals *queue[message]
	touched *queue[string]          // units that one of our calls changed without a signal
	passing *queue[chan<- struct{}] // callers that wait until the consumer has what is older than their answer
	jobs    *jobTable
	budget  *semaphore.Weighted

	mu     sync.Mutex
	closed bool
	out    sync.WaitGroup // unanswered calls
}

// dial connects, authenticates as the effective user and says Hello. The connection lives as long
// as ctx.
func dial(ctx context.Context, address string, calls *atomic.Uint64) (*link, error) {
	address = busAddress(address)
	ctx, cancel := context.WithCancel(ctx)
	l := &link{
		ctx: ctx, cancel: cancel, calls: calls,
		signals: newQueue[message](), touched: newQueue[string](), passing: newQueue[chan<- struct{}](),
		jobs: newJobTable(), budget: semaphore.NewWeighted(callBudget),
	}
	timeout := time.AfterFunc(handshakeTimeout, cancel)
	calls.Add(1) // Hello
	conn, err := dbus.Connect(address,
		dbus.WithContext(ctx),
		dbus.WithSignalHandler(signalHandler{l.signals}),
		dbus.WithAuth(dbus.AuthExternal(strconv.Itoa(os.Geteuid()))))
	if !timeout.Stop() {
		err = fmt.Errorf("no answer within %s", handshakeTimeout)
	}
	if err != nil {
		cancel() // closes the connection too
		return nil, fmt.Errorf("message bus at %s: %w: %w", address, ErrDisconnected, err)
	}
	l.conn = conn
	return l, nil
}

func busAddress(address string) string {
	if address == "" {
		address = os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	}
	if address == "" {
		address = systemBusAddress
	}
	return address
}

// signalHandler takes signals from godbus in the order of the connection.
type signalHandler struct{ to *queue[message] }

// DeliverSignal is called by the goroutine that reads the connection.
func (h signalHandler) DeliverSignal(_, _ string, s *dbus.Signal) {
	h.to.push(message{seq: s.Sequence, signal: s})
}

// close ends the connection and waits until every call on it has returned.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.jobs.lose()
	l.cancel()
	_ = l.conn.Close()
	l.out.Wait()
}

func (l *link) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.out.Add(1)
	return true
}

// call makes one call and waits for its answer. No lock is held meanwhile, so that an unanswered
// call blocks only its caller, and only until the caller's ctx ends.
func (l *link) call(ctx context.Context, path dbus.ObjectPath, iface, member string, args ...any) ([]any, error) {
	weight := min(callOverhead+2*int64(textSize(reflect.ValueOf(args))), callBudget)
	if err := l.budget.Acquire(ctx, weight); err != nil {
		return nil, callEnded(ctx, member)
	}
	if !l.begin() {
		l.budget.Release(weight)
		return nil, fmt.Errorf("%s: %w", member, ErrDisconnected)
	}
	end := func() {
		l.budget.Release(weight)
		l.out.Done()
	}
	l.calls.Add(1)
	// The call lives as long as the connection, not as long as ctx: its part of the socket's buffer
	// is free again when it is answered, not when its caller gives up.
	pending := l.conn.Object(busName, path).GoWithContext(l.ctx, iface+"."+member,
		dbus.FlagNoAutoStart, make(chan *dbus.Call, 1), args...)
	select {
	case <-pending.Done:
		end()
		return pending.Body, callFailed(member, pending.Err)
	case <-ctx.Done():
		go func() {
			<-pending.Done
			end()
		}()
		return nil, callEnded(ctx, member)
	}
}

// positionOf is the position of a message.
func (l *link) positionOf(seq dbus.Sequence) Position { return l.position + Position(seq) }

// pass waits until the consumer has every update that is older than the answers received so far.
func (l *link) pass(ctx context.Context, member string) error {
	passed := make(chan struct{})
	l.passing.push(passed)
	select {
	case <-passed:
		return nil
	case <-l.ctx.Done():
		return fmt.Errorf("%s: %w", member, ErrDisconnected)
	case <-ctx.Done():
		return callEnded(ctx, member)
	}
}

// reply is the answer to one of several calls.
type reply struct {
	seq  dbus.Sequence
	body []any
	err  error
}

// callAll makes calls of one method, all before the first answer, and waits for the answers. It
// takes their whole share of the budget at once: callers that each had only a part could wait for
// each other.
func (l *link) callAll(ctx context.Context, path dbus.ObjectPath, iface, member string, calls [][]any) ([]reply,
	error) {
	weight := min(int64(len(calls))*callOverhead+2*int64(textSize(reflect.ValueOf(calls))), callBudget)
	if err := l.budget.Acquire(ctx, weight); err != nil {
		return nil, callEnded(ctx, member)
	}
	if !l.begin() {
		l.budget.Release(weight)
		return nil, fmt.Errorf("%s: %w", member, ErrDisconnected)
	}
	l.calls.Add(uint64(len(calls)))
	pending := make([]*dbus.Call, len(calls))
	for i, args := range calls {
		pending[i] = l.conn.Object(busName, path).GoWithContext(l.ctx, iface+"."+member,
			dbus.FlagNoAutoStart, make(chan *dbus.Call, 1), args...)
	}
	answers := make(chan []reply, 1)
	go func() {
		defer l.out.Done()
		defer l.budget.Release(weight)
		all := make([]reply, len(pending))
		for i, call := range pending {
			<-call.Done
			all[i] = reply{call.ResponseSequence, call.Body, callFailed(member, call.Err)}
		}
		answers <- all
	}()
	select {
	case all := <-answers:
		return all, nil
	case <-ctx.Done():
		return nil, callEnded(ctx, member)
	}
}

// textSize estimates the size of a message's body in bytes.
func textSize(v reflect.Value) int {
	switch v.Kind() {
	case reflect.String:
		return v.Len() + 8
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Len() + 8
		}
		n := 8
		for i := range v.Len() {
			n += textSize(v.Index(i))
		}
		return n
	case reflect.Struct:
		if variant, ok := v.Interface().(dbus.Variant); ok {
			return 8 + textSize(reflect.ValueOf(variant.Value()))
		}
		n := 0
		for i := range v.NumField() {
			n += textSize(v.Field(i))
		}
		return n
	case reflect.Interface:
		return textSize(v.Elem())
	}
	return 8
}
