package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// ErrNotActivated means that PID 1 passed no descriptors to this process, or that they were already
// taken.
var ErrNotActivated = errors.New("no sockets were passed by systemd (LISTEN_FDS)")

// ActivationError reports what is wrong with the descriptors that were passed.
type ActivationError struct {
	Name   string // FileDescriptorName, or LISTEN_FD_n when it has none; empty: all of them
	Number int    // of the descriptor; 0: all of them
	Err    error
}

func (e *ActivationError) Error() string {
	if e.Number == 0 {
		return fmt.Sprintf("sockets passed by systemd: %v", e.Err)
	}
	return fmt.Sprintf("descriptor %d (%s) passed by systemd: %v", e.Number, e.Name, e.Err)
}

func (e *ActivationError) Unwrap() error { return e.Err }

// Activation is what PID 1 passed to this process (sd_listen_fds(3)). The caller owns all of it and
// keeps it as long as it serves: systemd passes nothing a second time.
type Activation struct {
	// Listeners are the listening stream sockets by FileDescriptorName, in the order of the socket
	// unit.
	Listeners map[string][]net.Listener
	// Others are all other descriptors (a descriptor store's, datagram sockets, pipes), named.
	Others []*os.File
}

// TakeActivation takes the descriptors that PID 1 passed, and removes their variables from the
// environment. It works once in a process; after that, and without socket activation, it returns
// ErrNotActivated. A descriptor that cannot be used is an *ActivationError, after which the process
// should end: the descriptors are not closed, because a wrong LISTEN_FDS may name those of the Go
// runtime.
func TakeActivation() (*Activation, error) {
	if text, set := os.LookupEnv("LISTEN_FDS"); set {
		if n, err := strconv.Atoi(text); err != nil || n < 0 {
			return nil, &ActivationError{Err: fmt.Errorf("LISTEN_FDS is %q; want a number", text)}
		}
	}
	files := activation.Files(true)
	if len(files) == 0 {
		return nil, ErrNotActivated
	}
	a := &Activation{Listeners: make(map[string][]net.Listener)}
	for _, f := range files {
		if err := a.add(f); err != nil {
			return nil, &ActivationError{Name: f.Name(), Number: int(f.Fd()), Err: err}
		}
	}
	return a, nil
}

// add sorts a descriptor into Listeners or Others. net.FileListener accepts any socket, so ask the
// kernel first.
func (a *Activation) add(f *os.File) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	listening, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listening == 0 {
		a.Others = append(a.Others, f)
		return nil
	}
	l, err := net.FileListener(f) // of a duplicate
	if err != nil {
		return err
	}
	a.Listeners[f.Name()] = append(a.Listeners[f.Name()], l)
	return f.Close()
}

// Close closes everything.
func (a *Activation) Close() {
	for _, list := range a.Listeners {
		for _, l := range list {
			l.Close()
		}
	}
	for _, f := range a.Others {
		f.Close()
	}
}
