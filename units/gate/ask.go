package gate

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/probe/grpchealth"
)

// askTimeout bounds one question. A busy engine that answers later is asked again.
const askTimeout = 2 * time.Second

// endpoint is where the engine is asked, and how.
type endpoint struct {
	scheme string // "http", "grpc" for gRPC's health protocol, "tcp" for a connection
	host   string
	port   int
	path   string         // of http; of grpc a slash and the name of the service
	body   *regexp.Regexp // of http: must match the answer's body; nil: any will do
}

// parseEndpoint accepts a URL of these schemes with a port on 127.0.0.1, where engines listen, and
// nothing else. pattern is a regular expression in base64 (RFC 4648, section 5, without padding),
// or empty: PID 1 would lose a $ in it.
func parseEndpoint(text, pattern string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, err
	}
	ip := net.ParseIP(u.Hostname())
	port, err := strconv.Atoi(u.Port())
	if !slices.Contains([]string{"http", "grpc", "tcp"}, u.Scheme) || !ip.Equal(net.IPv4(127, 0, 0, 1)) || err != nil {
		return endpoint{}, fmt.Errorf("%q is not of the form http://127.0.0.1:PORT/PATH", text)
	}
	e := endpoint{scheme: u.Scheme, host: u.Hostname(), port: port, path: u.RequestURI()}
	if pattern == "" {
		return e, nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(pattern)
	if err != nil {
		return endpoint{}, fmt.Errorf("the pattern of the body: %w", err)
	}
	if e.body, err = regexp.Compile(string(decoded)); err != nil {
		return endpoint{}, fmt.Errorf("the pattern of the body: %w", err)
	}
	return e, nil
}

// ask puts one question to the engine, and makes sure that it is the engine who listens, before and
// after: the user of the listening socket must be the engine's, or an answer would prove nothing.
func (e endpoint) ask(uid, expect int) Answer {
	if before := e.listener(uid); before != Healthy {
		return before
	}
	healthy, err := e.answer(expect)
	switch {
	case err != nil:
		return Silent
	case healthy:
		return e.listener(uid)
	}
	return Loading
}

// answer reports whether the engine says that it serves.
func (e endpoint) answer(expect int) (bool, error) {
	address := net.JoinHostPort(e.host, strconv.Itoa(e.port))
	conn, err := net.DialTimeout("tcp", address, askTimeout)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return false, err
	}
	switch e.scheme {
	case "tcp":
		return true, nil
	case "grpc":
		status, err := askGRPC(conn, address, strings.TrimPrefix(e.path, "/"))
		return status == grpchealth.Serving, err
	}
	return e.get(conn, address, expect)
}

// listener is Healthy where the engine's user, and nobody else, listens on the port.
func (e endpoint) listener(uid int) Answer {
	users, err := listen.Users(e.port)
	switch {
	case err != nil, len(users) == 0:
		return Silent
	case slices.ContainsFunc(users, func(u int) bool { return u != uid }):
		return Foreign
	}
	return Healthy
}

// bodyLimit is how much of an answer is read for its body, in bytes.
const bodyLimit = 64 << 10

// get sends a GET and judges the answer. It speaks just enough HTTP (RFC 9112) for that, so that a
// hundred gates that wait at the same time are small. Where the body matters it speaks HTTP/1.0,
// whose bodies come as they are and end with the connection.
func (e endpoint) get(conn net.Conn, address string, expect int) (bool, error) {
	version := "1.1"
	if e.body != nil {
		version = "1.0"
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/%s\r\nHost: %s\r\nUser-Agent: pool-gate\r\nConnection: close\r\n\r\n",
		e.path, version, address); err != nil {
		return false, err
	}
	answer := bufio.NewReaderSize(conn, 256)
	line, err := answer.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	status, err := parseStatus(string(line))
	if err != nil || status != expect || e.body == nil {
		return err == nil && status == expect, err
	}
	rest, err := io.ReadAll(io.LimitReader(answer, bodyLimit))
	if err != nil {
		return false, err
	}
	_, body, _ := bytes.Cut(rest, []byte("\r\n\r\n"))
	return e.body.Match(body), nil
}

// parseStatus reads "HTTP/1.1 200 OK".
func parseStatus(line string) (int, error) {
	f := strings.Fields(line)
	if len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/1.") {
		return 0, fmt.Errorf("not HTTP: %q", line)
	}
	status, err := strconv.Atoi(f[1])
	if err != nil || status < 100 || status > 599 {
		return 0, fmt.Errorf("no status in %q", line)
	}
	return status, nil
}
