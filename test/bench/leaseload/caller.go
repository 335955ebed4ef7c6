package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// caller is a client that costs little, so that what is measured is the server.
type caller struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	body []byte
}

// call takes and releases so many leases over one connection.
func (t target) call(pairs int) ([]time.Duration, error) {
	conn, err := net.Dial("unix", t.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := caller{conn: conn, in: bufio.NewReader(conn)}
	took := make([]time.Duration, 0, pairs)
	for range pairs {
		began := time.Now()
		if err := c.pair(t.path); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func (c *caller) pair(path string) error {
	const ask = `{"holder":"leaseload","ttl_ms":30000}`
	if err := c.send("POST", path, "", ask, 201); err != nil {
		return err
	}
	const field = `"lease_id":"`
	_, rest, found := bytes.Cut(c.body, []byte(field))
	id, _, ended := bytes.Cut(rest, []byte(`"`))
	if !found || !ended {
		return fmt.Errorf("no lease in %q", c.body)
	}
	return c.send("DELETE", path, "/"+string(id), "", 204)
}

// send sends a request and reads its answer into body.
func (c *caller) send(method, path, id, body string, want int) error {
	c.out = fmt.Appendf(c.out[:0], "%s %s%s HTTP/1.1\r\nHost: api\r\n", method, path, id)
	if body != "" {
		c.out = fmt.Appendf(c.out, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	c.out = append(append(c.out, "\r\n"...), body...)
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	status, err := c.answer()
	if err == nil && status != want {
		err = fmt.Errorf("%s: %d %s", method, status, c.body)
	}
	return err
}

func (c *caller) answer() (status int, err error) {
	length := 0
	for n := 0; ; n++ {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case n == 0 && len(line) >= 12:
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(line[len("Content-Length: "):])); err != nil {
				return 0, err
			}
		case len(line) == 0:
			c.body = append(c.body[:0], make([]byte, length)...)
			_, err = io.ReadFull(c.in, c.body)
			return status, err
		}
	}
}
