package probe

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// timer is a sleeper without connections.
type timer struct{ woken chan struct{} }

func newTimer() *timer { return &timer{woken: make(chan struct{}, 1)} }

// wait implements sleeper.
func (t *timer) wait(until time.Time) []uint64 {
	over := time.NewTimer(time.Until(until))
	defer over.Stop()
	select {
	case <-over.C:
	case <-t.woken:
	}
	return nil
}

// wake implements sleeper.
func (t *timer) wake() {
	select {
	case t.woken <- struct{}{}:
	default: // it was woken already, and has not returned yet
	}
}

// poller is a sleeper that watches connections: an epoll instance, which is itself a file that the
// runtime waits for. So one goroutine waits for any number of connections, and for a time.
//
// Connections are reported once for each arrival (EPOLLET), in use by this poller's owner or not,
// and leave the instance when they are closed.
type poller struct {
	file *os.File
	raw  syscall.RawConn

	mu    sync.Mutex
	woken bool

	events [64]unix.EpollEvent // of wait and ready
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // lets the runtime wait for it
		unix.Close(fd)
		return nil, err
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.file.SyscallConn(); err == nil {
		err = p.file.SetReadDeadline(time.Time{}) // an error: the runtime does not wait for it
	}
	if err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

// add watches a connection; id is its name in what wait returns.
func (p *poller) add(conn syscall.RawConn, id uint64) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd: int32(uint32(id)), Pad: int32(uint32(id >> 32))}
	var failed error
	err := p.raw.Control(func(poll uintptr) {
		failed = conn.Control(func(fd uintptr) {
			failed = unix.EpollCtl(int(poll), unix.EPOLL_CTL_ADD, int(fd), &event)
		})
	})
	return errors.Join(err, failed)
}

// wait implements sleeper.
func (p *poller) wait(until time.Time) (arrived []uint64) {
	p.mu.Lock()
	woken := p.woken
	p.woken = false
	if !woken {
		_ = p.file.SetReadDeadline(until) // newPoller has tried it
	}
	p.mu.Unlock()
	if woken {
		return p.ready()
	}
	_ = p.raw.Read(func(fd uintptr) bool { // an error is that the time is over
		arrived = p.look(fd)
		return len(arrived) > 0
	})
	return arrived
}

// ready returns what wait would, and does not wait.
func (p *poller) ready() (arrived []uint64) {
	_ = p.raw.Control(func(fd uintptr) { arrived = p.look(fd) }) // an error is that it is closed
	return arrived
}

func (p *poller) look(fd uintptr) (arrived []uint64) {
	n, err := unix.EpollWait(int(fd), p.events[:], 0)
	if err != nil {
		return nil // EINTR
	}
	for _, e := range p.events[:n] {
		arrived = append(arrived, uint64(uint32(e.Fd))|uint64(uint32(e.Pad))<<32)
	}
	return arrived
}

// wake implements sleeper.
func (p *poller) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = true
	_ = p.file.SetReadDeadline(time.Unix(1, 0)) // as in wait
}

func (p *poller) close() { _ = p.file.Close() }
