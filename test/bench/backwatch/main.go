// Command backwatch runs inside a test machine. It kills one engine with SIGKILL and prints how
// long it took until the queried process reported again that it serves: the manager's API for a
// pool, the engine's own health page for a unit without a manager.
//
// Usage: backwatch PID URL WORD. WORD is part of the answer while the engine serves. A URL of
// the host "api" goes to the manager's socket. It prints two numbers in microseconds: how long it
// took, and when that was by CLOCK_MONOTONIC, as PID 1's timestamps are.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

// patience bounds one crash.
const patience = 60 * time.Second

// look is the pause between two looks.
const look = time.Millisecond

func main() { guest.Main("backwatch", run) }

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: backwatch PID URL WORD")
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	serves := asker(ctx, args[1], []byte(args[2]))
	if !serves() {
		return errors.New("it does not serve")
	}
	killed := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	for _, wanted := range []bool{false, true} {
		for serves() != wanted {
			if ctx.Err() != nil {
				return fmt.Errorf("serves is not %t in time", wanted)
			}
			time.Sleep(look)
		}
	}
	took := time.Since(killed)
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	fmt.Println(took.Microseconds(), now.Nano()/1000)
	return nil
}

// asker returns a query that is true while the answer contains the word.
func asker(ctx context.Context, url string, word []byte) func() bool {
	client := guest.NewClient()
	return func() bool {
		body, err := guest.Send(ctx, client, http.MethodGet, url)
		return err == nil && bytes.Contains(body, word)
	}
}
