package term

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a terminal that shows screens, from Open to Leave.
type Terminal struct {
	in, out *os.File
	kind    string // TERM
	before  *unix.Termios
}

// ErrNone is the error of Open where there is no terminal.
var ErrNone = errors.New("it is not a terminal")

// Open takes over the terminal that both files are. kind is TERM.
func Open(in, out *os.File, kind string) (*Terminal, error) {
	t := &Terminal{in: in, out: out, kind: kind}
	if kind == "" || kind == "dumb" {
		return nil, fmt.Errorf("a terminal of the kind %q (TERM) cannot show a screen", kind)
	}
	for _, f := range []*os.File{out, in} {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), ErrNone)
		}
	}
	return t, t.Enter()
}

// Enter takes over the terminal, again after a Leave.
func (t *Terminal) Enter() error {
	before, err := unix.IoctlGetTermios(int(t.in.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	raw := *before // as cfmakeraw(3)
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL |
		unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, &raw); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	t.before = before
	// The second screen, no cursor, no wrap at the end of a line. A terminal ignores those that it
	// does not have (DEC private modes).
	begin := "\x1b[?25l\x1b[?7l"
	if !t.oneScreen() {
		begin = "\x1b[?1049h" + begin
	}
	return t.Write([]byte(begin))
}

// oneScreen reports whether there is no second screen to go back from: there, what was shown is
// erased at the end.
func (t *Terminal) oneScreen() bool {
	kinds := []string{"linux", "vt", "ansi", "cons"}
	return slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(t.kind, k) })
}

// Leave makes the terminal what it was. It may be called twice.
func (t *Terminal) Leave() error {
	if t.before == nil {
		return nil
	}
	end := "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
	if t.oneScreen() {
		end = "\x1b[0m\x1b[2J\x1b[H\x1b[?7h\x1b[?25h"
	}
	err := t.Write([]byte(end))
	err = errors.Join(err, unix.IoctlSetTermios(int(t.in.Fd()), unix.TCSETS, t.before))
	t.before = nil
	return err
}

// Write sends what Paint returned.
func (t *Terminal) Write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := t.out.Write(b); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// Size returns its columns and lines; 80 and 24 where it does not know them, as a serial line.
func (t *Terminal) Size() (width, height int) {
	s, err := unix.IoctlGetWinsize(int(t.out.Fd()), unix.TIOCGWINSZ)
	if err != nil || s.Col == 0 || s.Row == 0 {
		return 80, 24
	}
	return int(s.Col), int(s.Row)
}

// escapePause is after how long an ESC is the key of that name, and not the beginning of another's
// sequence, whose bytes come together even over a slow line.
const escapePause = 50 * time.Millisecond

// Keys passes on each key until ctx ends or the terminal is gone, which is an error.
func (t *Terminal) Keys(ctx context.Context, pass func(Key)) error {
	wake, waker, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer wake.Close()
	stop := context.AfterFunc(ctx, func() { _ = waker.Close() })
	defer func() {
		if stop() {
			_ = waker.Close()
		}
	}()
	var kept []byte
	for {
		got, err := t.read(int(wake.Fd()), len(kept) > 0)
		if err != nil || ctx.Err() != nil {
			return err
		}
		kept = append(kept, got...)
		for {
			k, n := decode(kept, len(got) == 0)
			if n == 0 {
				break
			}
			if kept = kept[n:]; k != "" {
				pass(k)
			}
		}
	}
}

// read returns what was typed; with soon, nothing where nothing follows soon.
func (t *Terminal) read(wake int, soon bool) ([]byte, error) {
	wait := -1
	if soon {
		wait = int(escapePause.Milliseconds())
	}
	ready := []unix.PollFd{{Fd: int32(t.in.Fd()), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	n, err := unix.Poll(ready, wait)
	switch {
	case errors.Is(err, unix.EINTR):
		return t.read(wake, soon)
	case err != nil:
		return nil, fmt.Errorf("terminal: %w", err)
	case n == 0 || ready[1].Revents != 0:
		return nil, nil
	}
	b := make([]byte, 256)
	n, err = unix.Read(int(t.in.Fd()), b)
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return t.read(wake, soon)
	case err != nil:
		return nil, fmt.Errorf("terminal: %w", err)
	case n == 0:
		return nil, fmt.Errorf("terminal: %w", io.EOF)
	}
	return b[:n], nil
}
