// Command hostileload runs inside a test machine. It attacks the manager's API as hostile local
// users do, and measures what an administrator sees meanwhile.
//
// Usage: hostileload attack NETWORK ADDRESS CLIENTS EACH SECONDS prints how many connections were
// opened. hostileload time N COMMAND… runs a command N times and prints one JSON object: its
// quantiles in milliseconds and how often it failed. hostileload get URL prints the status and the
// body of an answer.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
	"github.com/pool-managerd/pool-managerd/test/hostile"
)

func main() { guest.Main("hostileload", run) }

func run(args []string) error {
	switch {
	case len(args) == 6 && args[0] == "attack":
		return attack(args[1], args[2], args[3:])
	case len(args) >= 3 && args[0] == "time":
		return measure(args[1], args[2:])
	case len(args) == 2 && args[0] == "get":
		return get(args[1])
	}
	return errors.New("usage: hostileload attack NETWORK ADDRESS CLIENTS EACH SECONDS, time N COMMAND…, or get URL")
}

func attack(network, address string, numbers []string) error {
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(numbers[i]); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n[2])*time.Second)
	defer cancel()
	opened := hostile.Run(ctx, n[0], n[1], func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	})
	fmt.Println(opened)
	return nil
}

func measure(times string, command []string) error {
	n, err := strconv.Atoi(times)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no number of runs", times)
	}
	var took []float64
	var failures []string
	for range n {
		began := time.Now()
		out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		took = append(took, float64(time.Since(began).Microseconds())/1000)
		if err != nil {
			failures = append(failures, fmt.Sprintf("%v: %s", err, out))
		}
	}
	slices.Sort(took)
	at := func(q float64) float64 { return took[int(q*float64(n-1))] }
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1), "failed": len(failures), "failures": failures[:min(3, len(failures))],
	})
}

func get(url string) error {
	resp, err := (&http.Client{Timeout: 30 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	fmt.Printf("%d %s\n", resp.StatusCode, body)
	return nil
}
