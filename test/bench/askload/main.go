// Command askload runs inside a test machine. It asks the manager's API for a pool's health over
// many connections, and in turn a bare net/http server that answers the same bytes: no timeouts, no
// callers to know, nothing to log. Both are processes beside it. It can also keep streams of events
// open, to see what they cost.
//
// Usage: askload health POOL CONNECTIONS SECONDS prints one JSON object. askload streams N SECONDS
// prints a line when N streams are open, and ends after so many seconds. askload many POOL
// CONNECTIONS REQUESTS sends so many requests of several kinds. askload engines PORT
// answers as any number of engines do, one on each loopback address. askload serve SOCKET BODY is
// the bare server.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

func main() { guest.Main("askload", run) }

func run(args []string) error {
	switch {
	case len(args) == 4 && args[0] == "health":
		return health(args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "many":
		return many(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "streams":
		return streams(args[1], args[2])
	case len(args) == 2 && args[0] == "engines":
		return http.ListenAndServe(":"+args[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"status":"ok"}`)
		}))
	case len(args) == 3 && args[0] == "serve":
		return serve(args[1], args[2])
	}
	return errors.New("usage: askload health POOL CONNECTIONS SECONDS, streams N SECONDS, " +
		"or many POOL CONNECTIONS REQUESTS")
}

// serve answers every request with the same body, as little as net/http needs for it.
func serve(socket, body string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/pools/{id}/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return http.Serve(l, mux)
}

// result is what is printed: answers a second, and the servers' processor time for each.
type result struct {
	Ours     float64 `json:"ours_per_sec"`
	Bare     float64 `json:"bare_per_sec"`
	OursUSec float64 `json:"ours_cpu_usec"`
	BareUSec float64 `json:"bare_cpu_usec"`
}

func health(pool, connections, seconds string) error {
	n, errN := strconv.Atoi(connections)
	secs, errS := strconv.Atoi(seconds)
	if err := errors.Join(errN, errS); err != nil {
		return err
	}
	request := "GET /v1/pools/" + pool + "/health HTTP/1.1\r\nHost: api\r\n\r\n"
	ours, err := open(guest.Socket, n, request)
	if err != nil {
		return err
	}
	bare, end, err := serveBeside(ours.body)
	if err != nil {
		return err
	}
	defer end()
	theirs, err := open(bare, n, request)
	if err != nil {
		return err
	}
	oursBefore, errOurs := spentBy("pool-managerd.service")
	bareBefore, errBare := spentBy(bareUnit)
	if err := errors.Join(errOurs, errBare); err != nil {
		return err
	}
	const turn = 250 * time.Millisecond // in turn, so that other load on the processor affects both
	var mine, other int
	turns := secs * int(time.Second/turn) / 2
	for range turns {
		for _, side := range []struct {
			callers *callers
			count   *int
		}{{ours, &mine}, {theirs, &other}} {
			answers, err := side.callers.ask(turn)
			if err != nil {
				return err
			}
			*side.count += answers
		}
	}
	oursAfter, errOurs := spentBy("pool-managerd.service")
	bareAfter, errBare := spentBy(bareUnit)
	if err := errors.Join(errOurs, errBare); err != nil {
		return err
	}
	spent := (time.Duration(turns) * turn).Seconds()
	return json.NewEncoder(os.Stdout).Encode(result{float64(mine) / spent, float64(other) / spent,
		(oursAfter - oursBefore) / float64(mine), (bareAfter - bareBefore) / float64(other)})
}

// serveBeside starts the bare server as a unit of its own, as the manager is one: where processors
// are shared, units share them and not processes.
func serveBeside(body string) (socket string, end func(), err error) {
	dir, err := os.MkdirTemp("", "askload-")
	if err != nil {
		return "", nil, err
	}
	socket = filepath.Join(dir, "s")
	start := exec.Command("systemd-run", "--quiet", "--collect", "--unit="+bareUnit, os.Args[0], "serve", socket, body)
	if out, err := start.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("%w\n%s", err, out)
	}
	end = func() {
		_ = exec.Command("systemctl", "stop", bareUnit).Run()
		_ = os.RemoveAll(dir)
	}
	for range 200 {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			return socket, end, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	end()
	return "", nil, errors.New("the bare server does not listen")
}

const bareUnit = "bench-bare.service"

// spentBy is the processor time of a unit so far, in microseconds.
func spentBy(unit string) (float64, error) {
	text, err := os.ReadFile("/sys/fs/cgroup/system.slice/" + unit + "/cpu.stat")
	if err != nil {
		return 0, err
	}
	var usec float64
	_, err = fmt.Sscanf(string(text), "usage_usec %g", &usec)
	return usec, err
}

// callers are connections that ask at the same time, each again as soon as it has an answer.
type callers struct {
	request string
	open    []net.Conn
	read    []*bufio.Reader
	size    int // of one answer
	body    string
}

func open(socket string, n int, request string) (*callers, error) {
	c := &callers{request: request}
	for range n {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil, err
		}
		c.open, c.read = append(c.open, conn), append(c.read, bufio.NewReader(conn))
	}
	if _, err := io.WriteString(c.open[0], request); err != nil {
		return nil, err
	}
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := c.read[0].ReadString('\n')
		if err != nil {
			return nil, err
		}
		head.WriteString(line)
	}
	body, err := c.read[0].ReadString('\n')
	if err == nil && !strings.HasPrefix(head.String(), "HTTP/1.1 200 ") {
		err = errors.New(head.String())
	}
	c.size, c.body = head.Len()+len(body), body
	return c, err
}

// ask asks for so long, and returns how many answers came.
func (c *callers) ask(d time.Duration) (int, error) {
	counts, errs := make([]int, len(c.open)), make([]error, len(c.open))
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for i, conn := range c.open {
		all.Go(func() {
			for time.Now().Before(end) {
				if _, errs[i] = io.WriteString(conn, c.request); errs[i] != nil {
					return
				}
				if _, errs[i] = c.read[i].Discard(c.size); errs[i] != nil {
					return
				}
				counts[i]++
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum, errors.Join(errs...)
}

// streams opens streams of events and keeps them open.
func streams(count, seconds string) error {
	n, errN := strconv.Atoi(count)
	secs, errS := strconv.Atoi(seconds)
	if err := errors.Join(errN, errS); err != nil {
		return err
	}
	for i := range n {
		conn, err := net.Dial("unix", guest.Socket)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: api\r\n\r\n"); err != nil {
			return err
		}
		if line, err := bufio.NewReaderSize(conn, 64).ReadString('\n'); err != nil ||
			!strings.HasPrefix(line, "HTTP/1.1 200 ") {
			return fmt.Errorf("stream %d: %s %w", i, line, err)
		}
	}
	fmt.Println("open")
	time.Sleep(time.Duration(secs) * time.Second)
	return nil
}
