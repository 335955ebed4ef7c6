package main

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

// many is how many connections one hostile client keeps, and of those that are streams of events.
const (
	many    = 150
	streams = 60
)

// kinds are how a hostile connection goes on, by kind: what it writes first, and what it then
// writes again and again. None reads an answer.
var kinds = map[string][2]string{
	"idle": {"", ""},
	"slow": {"GET /v1/pools HTTP/1.1\r\nHost: x\r\nX-Slow: ", "a"}, // a byte of a header at a time
	"endless": {"POST /v1/pools/p00/leases HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
		"1000\r\n" + strings.Repeat("x", 4096) + "\r\n"},
	"streams": {"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n", ""}, // events that it does not read
	"expect":  {"GET /v1/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
	"junk":    {"\x16\x03\x01\x00\xff" + strings.Repeat("\x00junk ", 100) + "\r\n\r\n", "\x00"},
	"denied":  {"", "POST /v1/pools/p00/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"},
	"all":     {"", "GET /v1/pools HTTP/1.1\r\nHost: x\r\n\r\n"}, // answers that it does not read
}

// hostile keeps many connections of a kind to the manager for so long. One that the manager closes
// is made again.
func hostile(kind string, d time.Duration) error {
	step, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("no kind %q", kind)
	}
	until := time.Now().Add(d)
	connections := many
	if slices.Contains([]string{"streams", "expect"}, kind) {
		connections = streams
	}
	var all sync.WaitGroup
	for range connections {
		all.Go(func() {
			for time.Now().Before(until) {
				connect(step, until)
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	all.Wait()
	return nil
}

// connect is one hostile connection, until the manager closes it or the time is over.
func connect(step [2]string, until time.Time) {
	c, err := net.DialTimeout("unix", guest.Socket, time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(until)
	if _, err := c.Write([]byte(step[0])); err != nil {
		return
	}
	for time.Now().Before(until) {
		if step[1] != "" {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.Write([]byte(step[1])); err != nil && !timedOut(err) {
				return
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// timedOut reports whether a write waits for the other side to read.
func timedOut(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
