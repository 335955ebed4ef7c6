// Command crashwatch runs inside a test machine. It kills one engine with SIGKILL and prints how
// long it took until a bare D-Bus subscriber, which does nothing else, received it, and until the
// manager's API reported ready=false. Both are seen by this one process on one clock, so that their
// ratio is the manager's own share.
//
// Usage: crashwatch UNIT PID [POOL]. Without a pool only the bus is watched. It prints one JSON
// object; times are microseconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

// patience bounds one crash.
const patience = 20 * time.Second

// result is what is printed.
type result struct {
	KillUSec int64 `json:"kill_usec"` // when the signal was sent, CLOCK_MONOTONIC
	BusUSec  int64 `json:"bus_usec"`  // from there until the signal on the bus
	APIUSec  int64 `json:"api_usec"`  // and until ready=false
}

func main() { guest.Main("crashwatch", run) }

func run(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("usage: crashwatch UNIT PID [POOL]")
	}
	pid, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	signals, closeBus, err := subscribe(ctx, args[0])
	if err != nil {
		return err
	}
	defer closeBus()
	client, pool := guest.NewClient(), ""
	if len(args) == 3 {
		pool = args[2]
		if is, err := guest.Ready(ctx, client, pool); err != nil || !is {
			return fmt.Errorf("the pool is not ready (%v)", err)
		}
	}
	bus := make(chan time.Time, 1)
	go func() { bus <- leftActive(ctx, signals) }()

	killed, killedUSec := time.Now(), monotonic()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	fell := killed
	if pool != "" {
		if fell, err = guest.Falls(ctx, client, pool); err != nil {
			return err
		}
	}
	heard := <-bus
	if heard.IsZero() {
		return errors.New("no signal came over the bus")
	}
	return json.NewEncoder(os.Stdout).Encode(result{killedUSec, heard.Sub(killed).Microseconds(),
		fell.Sub(killed).Microseconds()})
}

// monotonic is the clock of PID 1's timestamps, in microseconds.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / 1000
}

// subscribe connects to the system bus and asks for the unit's property changes.
func subscribe(ctx context.Context, unit string) (<-chan *dbus.Signal, func(), error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	stop := func() { _ = conn.Close() } // the process ends right after
	manager := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	var path dbus.ObjectPath
	if err := manager.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.GetUnit", 0,
		unit).Store(&path); err != nil {
		stop()
		return nil, nil, err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchObjectPath(path),
		dbus.WithMatchSender("org.freedesktop.systemd1"),
		dbus.WithMatchInterface("org.freedesktop.DBus.Properties"), dbus.WithMatchMember("PropertiesChanged"))
	if err == nil {
		err = manager.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.Subscribe", 0).Err
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return signals, stop, nil
}

// leftActive returns when the unit was first reported in another state than active; zero when it
// never was.
func leftActive(ctx context.Context, signals <-chan *dbus.Signal) time.Time {
	for {
		select {
		case <-ctx.Done():
			return time.Time{}
		case s := <-signals:
			if s == nil {
				return time.Time{}
			}
			if len(s.Body) < 2 {
				continue
			}
			changed, ok := s.Body[1].(map[string]dbus.Variant)
			if state, has := changed["ActiveState"]; ok && has && state.Value() != "active" {
				return time.Now()
			}
		}
	}
}
