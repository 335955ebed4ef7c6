package keep

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootIDFile has a UUID that changes with each boot (random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// Deadline is a moment that survives the manager. Within one boot it is measured on CLOCK_BOOTTIME
// (clock_gettime(2)), which setting the clock does not move and which goes on while the host
// sleeps; after a reboot, on the wall clock.
type Deadline struct {
	Boot string    `json:"boot"`
	At   int64     `json:"at_ns"` // CLOCK_BOOTTIME in that boot, nanoseconds
	Wall time.Time `json:"wall"`
}

// Clock is what deadlines are measured by. The zero value is not usable; make one with NewClock.
type Clock struct {
	boot string
	now  func() (bootTime int64, wall time.Time)
}

// NewClock returns the clock of this host.
func NewClock() (Clock, error) {
	id, err := os.ReadFile(bootIDFile)
	if err != nil {
		return Clock{}, fmt.Errorf("read the id of this boot: %w", err)
	}
	return ClockOf(strings.TrimSpace(string(id)), func() (int64, time.Time) {
		var t unix.Timespec
		// It cannot fail for a clock that Linux has had since 2.6.39.
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
		return t.Nano(), time.Now()
	}), nil
}

// ClockOf returns a clock that reads now: the time since the boot of that name in nanoseconds, and
// the wall clock's.
func ClockOf(boot string, now func() (bootTime int64, wall time.Time)) Clock { return Clock{boot, now} }

// Boot returns the id of this boot.
func (c Clock) Boot() string { return c.boot }

// SinceBoot returns the time since the boot, as the time since 1970: a clock that cannot be set. It
// compares with itself, within one boot.
func (c Clock) SinceBoot() time.Time {
	at, _ := c.now()
	return time.Unix(0, at).UTC()
}

// In returns the deadline that is d from now.
func (c Clock) In(d time.Duration) Deadline {
	at, wall := c.now()
	return Deadline{Boot: c.boot, At: at + int64(d), Wall: wall.Add(d).Round(0)}
}

// Left returns the time until a deadline, negative when it has passed.
func (c Clock) Left(d Deadline) time.Duration {
	at, wall := c.now()
	if d.Boot == c.boot {
		return time.Duration(d.At - at)
	}
	return d.Wall.Sub(wall)
}
