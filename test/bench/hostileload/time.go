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
)

// doer does one of the things that are timed.
type doer func() error

// measure does several things in turn, so that what else the host does meets each of them alike.
func measure(times string, words []string) error {
	n, err := strconv.Atoi(times)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is no number of runs", times)
	}
	var things []doer
	for len(words) > 0 {
		end := slices.Index(words, "--")
		if end < 0 {
			end = len(words)
		}
		if end == 0 {
			return errors.New("nothing is between two --")
		}
		things = append(things, thing(words[:end]))
		words = words[min(end+1, len(words)):]
	}
	took := make([][]float64, len(things))
	failures := make([][]string, len(things))
	for range n {
		for i, do := range things {
			began := time.Now()
			err := do()
			took[i] = append(took[i], float64(time.Since(began).Microseconds())/1000)
			if err != nil {
				failures[i] = append(failures[i], err.Error())
			}
		}
	}
	for i := range things {
		if err := printTimes(os.Stdout, took[i], failures[i]); err != nil {
			return err
		}
	}
	return nil
}

// thing is what is timed: a command, or a request.
func thing(words []string) doer {
	if words[0] == "ask" && len(words) == 3 {
		return func() error { return ask(words[1], words[2]) }
	}
	return func() error {
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// ask sends one request over a connection of its own, as poolctl does, and reads the answer.
func ask(socket, path string) error {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}}}
	resp, err := client.Get("http://api" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s", path, resp.Status)
	}
	return nil
}

// printTimes prints the quantiles by nearest rank: the p99 of less than a hundred is the slowest.
func printTimes(to io.Writer, took []float64, failures []string) error {
	slices.Sort(took)
	at := func(percent int) float64 { return took[(len(took)*percent+99)/100-1] }
	return json.NewEncoder(to).Encode(map[string]any{"p50_ms": at(50), "p90_ms": at(90), "p99_ms": at(99),
		"max_ms": at(100), "failed": len(failures), "failures": failures[:min(3, len(failures))]})
}
