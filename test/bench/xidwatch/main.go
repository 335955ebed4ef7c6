// Command xidwatch runs inside a test machine with fake GPUs. It has the fake driver report an Xid
// of one GPU and prints how long it took until the manager's API reported ready=false of a pool on
// it, both seen by this one process on one clock.
//
// Usage: xidwatch GPU CODE POOL. It prints one JSON object; the time is in microseconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

const (
	driverSocket = "/run/fakegpu/ctl.sock"
	patience     = 20 * time.Second
)

func main() { guest.Main("xidwatch", run) }

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: xidwatch GPU CODE POOL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := guest.NewClient()
	if is, err := guest.Ready(ctx, client, args[2]); err != nil || !is {
		return fmt.Errorf("the pool is not ready (%v)", err)
	}
	driver, err := net.Dial("unix", driverSocket)
	if err != nil {
		return err
	}
	defer driver.Close()
	began := time.Now()
	if err := json.NewEncoder(driver).Encode([]string{"xid", args[0], args[1]}); err != nil {
		return err
	}
	seen, err := guest.Falls(ctx, client, args[2])
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{"usec": seen.Sub(began).Microseconds()})
}
