package gate

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/listen"
)

// askTimeout bounds one question. A busy engine that answers later is asked again.
const askTimeout = 2 * time.Second

// endpoint is where the engine is asked.
type endpoint struct {
	host string
	port int
	path string
}

// parseEndpoint accepts an http URL with a port on 127.0.0.1, where engines listen, and nothing else.
func parseEndpoint(text string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, err
	}
	ip := net.ParseIP(u.Hostname())
	port, err := strconv.Atoi(u.Port())
	if u.Scheme != "http" || !ip.Equal(net.IPv4(127, 0, 0, 1)) || err != nil {
		return endpoint{}, fmt.Errorf("%q is not of the form http://127.0.0.1:PORT/PATH", text)
	}
	return endpoint{host: u.Hostname(), port: port, path: u.RequestURI()}, nil
}

// ask puts one question to the engine, and makes sure that it is the engine who listens, before and after: the user of the listening
// socket must be the engine's, or an answer would prove nothing.
func (e endpoint) ask(uid, expect int) Answer {
	if before := e.listener(uid); before != Healthy {
		return before
	}
	status, err := e.get()
	switch {
	case err != nil:
		return Silent
	case status == expect:
		return e.listener(uid)
	}
	return Loading
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

// get returns the status of a GET. It speaks just enough HTTP/1.1 (RFC 9112) for that, so that a hundred gates
// that wait at the same time are small.
func (e endpoint) get() (int, error) {
	address := net.JoinHostPort(e.host, strconv.Itoa(e.port))
	conn, err := net.DialTimeout("tcp", address, askTimeout)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: pool-gate\r\nConnection: close\r\n\r\n", e.path, address); err != nil {
		return 0, err
	}
	line, err := bufio.NewReaderSize(conn, 256).ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	return parseStatus(string(line))
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
