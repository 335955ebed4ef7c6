// Command xidwatch runs inside a test machine with fake GPUs. It has the fake driver report an Xid of one GPU and tells how long it took
// until the manager's API said ready=false of a pool on it, both seen by this one process on one clock.
//
// Usage: xidwatch GPU CODE POOL. It prints one JSON object; the time is in microseconds.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	apiSocket    = "/run/pool-managerd/api.sock"
	driverSocket = "/run/fakegpu/ctl.sock"
	patience     = 20 * time.Second
	// look is the pause between two looks at the API: short against what is measured, long enough to leave the processor alone.
	look = 300 * time.Microsecond
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "xidwatch:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: xidwatch GPU CODE POOL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", apiSocket)
	}}}
	if is, err := ready(ctx, client, args[2]); err != nil || !is {
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
	for {
		is, err := ready(ctx, client, args[2])
		if err != nil {
			return err
		}
		if !is {
			return json.NewEncoder(os.Stdout).Encode(map[string]int64{"usec": time.Since(began).Microseconds()})
		}
		time.Sleep(look)
	}
}

// ready asks the API about one pool.
func ready(ctx context.Context, client *http.Client, pool string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/v1/pools/"+pool+"/health", nil)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return bytes.Contains(body, []byte(`"ready":true`)), err
}
