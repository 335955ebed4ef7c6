package systemd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// notifyTimeout bounds one notification: if PID 1 does not read, the main loop must not block.
const notifyTimeout = time.Second

// Notifier notifies PID 1 by sd_notify(3). Without NOTIFY_SOCKET every method does nothing. It may
// be used by many goroutines; each message is independent.
type Notifier struct {
	socket string
}

// NewNotifier reads NOTIFY_SOCKET: a path, or "@" and an abstract name.
func NewNotifier() *Notifier {
	return &Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
}

// Ready reports that start-up, or the reload, is complete; status is one line for systemctl status.
func (n *Notifier) Ready(status string) error {
	return n.send("READY=1", statusLine(status))
}

// Reloading reports that the configuration is being read again; Ready must follow.
// Type=notify-reload needs the time of CLOCK_MONOTONIC with it, to distinguish this reload from an
// earlier one.
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("clock_gettime: %w", err)
	}
	return n.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping reports that this process is about to end.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Status sets the line that systemctl status shows.
func (n *Notifier) Status(status string) error { return n.send(statusLine(status)) }

// Watchdog keeps the watchdog from expiring; see WatchdogInterval.
func (n *Notifier) Watchdog() error { return n.send("WATCHDOG=1") }

func statusLine(status string) string {
	return "STATUS=" + strings.Join(strings.FieldsFunc(status, func(r rune) bool {
		return r == '\n' || r == '\r'
	}), " ")
}

func (n *Notifier) send(lines ...string) error {
	if n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// WatchdogInterval returns the time within which PID 1 expects the next Watchdog call, from
// WATCHDOG_USEC and WATCHDOG_PID (sd_watchdog_enabled(3) recommends to call it twice as often). 0:
// this process has no watchdog.
func WatchdogInterval() (time.Duration, error) {
	return daemon.SdWatchdogEnabled(false)
}
