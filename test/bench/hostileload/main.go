// Command hostileload runs inside a test machine. It attacks the manager's API as hostile local
// users do, and measures what an administrator sees meanwhile.
//
// Usage: hostileload attack NETWORK ADDRESS CLIENTS EACH SECONDS prints how many connections were
// opened. hostileload time N WHAT [-- WHAT…] does several things in turn, N times each, and prints
// one JSON object for each, in their order: its quantiles in milliseconds and how often it failed.
// WHAT is a command with its arguments, or "ask SOCKET PATH": one request over a connection of its
// own, by this process. hostileload get URL prints the status and the body of an answer.
// hostileload fill SOCKET SECONDS [MOST] connects to a unix socket until that is refused, prints
// how many connections it has and why the next one failed, and holds them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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
	case len(args) >= 3 && args[0] == "fill":
		return fill(args[1], args[2:])
	}
	return errors.New("usage: hostileload attack NETWORK ADDRESS CLIENTS EACH SECONDS, time N WHAT [-- WHAT…], " +
		"get URL, or fill SOCKET SECONDS [MOST]")
}

// fill connects without sending anything, as long as there is room.
func fill(socket string, numbers []string) error {
	seconds, err := strconv.Atoi(numbers[0])
	most := 1 << 16
	if err == nil && len(numbers) > 1 {
		most, err = strconv.Atoi(numbers[1])
	}
	if err != nil {
		return err
	}
	var held []net.Conn
	var refused error
	for len(held) < most && refused == nil {
		var c net.Conn
		if c, refused = net.Dial("unix", socket); refused == nil {
			held = append(held, c)
		}
	}
	fmt.Println(len(held), refused)
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	if n, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET")); err == nil { // where a service waits for it
		_, err = n.Write([]byte("READY=1"))
		if err := errors.Join(err, n.Close()); err != nil {
			return err
		}
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	return nil
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
