package gate

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/probe/grpchealth"
	"github.com/pool-managerd/pool-managerd/units/probe/http1"
)

// askTimeout bounds one request. A busy engine that answers later gets another request.
const askTimeout = 2 * time.Second

// endpoint is the address and the protocol of the engine's health check.
type endpoint struct {
	scheme string // "http", "grpc" for gRPC's health protocol, "tcp" for a connection
	host   string
	port   int
	unix   string         // the engine's socket, which is connected to instead of host and port; empty: none
	path   string         // http: the path; grpc: a slash and the name of the service
	key    string         // http: sent as a bearer token; empty: none
	body   *regexp.Regexp // http: must match the response body; nil: any body
}

// parseEndpoint accepts a URL of these schemes with a port on 127.0.0.1, where engines listen, and
// rejects everything else. pattern is a regular expression in base64 (RFC 4648, section 5, without
// padding), or empty. It is encoded because PID 1 would lose a $ in it.
func parseEndpoint(text, unix, pattern string) (endpoint, error) {
	u, err := url.Parse(text)
	if err != nil {
		return endpoint{}, err
	}
	ip := net.ParseIP(u.Hostname())
	port, err := strconv.Atoi(u.Port())
	if !slices.Contains([]string{"http", "grpc", "tcp"}, u.Scheme) || !ip.Equal(net.IPv4(127, 0, 0, 1)) || err != nil {
		return endpoint{}, fmt.Errorf("%q is not of the form http://127.0.0.1:PORT/PATH", text)
	}
	e := endpoint{scheme: u.Scheme, host: u.Hostname(), port: port, unix: unix, path: u.RequestURI()}
	if pattern == "" {
		return e, nil
	}
	decoded, err := base64.RawURLEncoding.DecodeString(pattern)
	if err != nil {
		return endpoint{}, fmt.Errorf("invalid body pattern: %w", err)
	}
	if e.body, err = regexp.Compile(string(decoded)); err != nil {
		return endpoint{}, fmt.Errorf("invalid body pattern: %w", err)
	}
	return e, nil
}

// heard is the result of one request.
type heard struct {
	answer  Answer
	reached bool       // the engine may have noticed the request
	what    exit.Heard // what it explains
	text    string     // the same in words; "" where the answer is that of an engine that loads
}

// ask sends one request to the engine. Before and after it checks the user of the listening socket:
// an answer from another user's process proves nothing. A unix socket is checked as it is connected
// to.
func (e endpoint) ask(uid, expect int) heard {
	if before := e.listener(uid); before != Healthy {
		return heard{answer: before}
	}
	h := e.answer(uid, expect)
	if h.answer == Healthy {
		h.answer = e.listener(uid)
	}
	return h
}

// answer sends the request.
func (e endpoint) answer(uid, expect int) heard {
	address := net.JoinHostPort(e.host, strconv.Itoa(e.port))
	conn, err := e.dial(uid, address)
	if err != nil {
		return heard{reached: !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist)}
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return heard{reached: true}
	}
	switch e.scheme {
	case "tcp":
		return heard{answer: Healthy, reached: true}
	case "grpc":
		status, err := askGRPC(conn, address, strings.TrimPrefix(e.path, "/"))
		switch {
		case err != nil:
			return e.unanswered(err, "gRPC")
		case status == grpchealth.Serving:
			return heard{answer: Healthy, reached: true}
		}
		return heard{answer: Loading, reached: true}
	}
	h, err := e.get(conn, address, expect)
	if err != nil {
		return e.unanswered(err, "HTTP")
	}
	return h
}

// dial connects to the engine.
func (e endpoint) dial(uid int, address string) (net.Conn, error) {
	if e.unix != "" {
		return dialUnix(e.unix, uid)
	}
	return net.DialTimeout("tcp", address, askTimeout)
}

// listener returns Healthy if only the engine's user listens on the port, or the engine has a unix
// socket.
func (e endpoint) listener(uid int) Answer {
	if e.unix != "" {
		return Healthy
	}
	users, err := listen.Users(e.port)
	switch {
	case err != nil, len(users) == 0:
		return Silent
	case slices.ContainsFunc(users, func(u int) bool { return u != uid }):
		return Foreign
	}
	return Healthy
}

// The users that PID 1 gives to units with DynamicUser= (systemd's UIDS-GIDS document).
const (
	dynamicFirst = 61184
	dynamicLast  = 65519
)

// strangers reports whether only users listen on the port that no engine runs as. It is for an
// engine whose user is unknown, because it has ended: a process that it left behind is no stranger.
func (e endpoint) strangers() bool {
	if e.unix != "" {
		return false
	}
	users, err := listen.Users(e.port)
	return err == nil && allStrangers(users)
}

func allStrangers(users []int) bool {
	return len(users) > 0 &&
		!slices.ContainsFunc(users, func(u int) bool { return dynamicFirst <= u && u <= dynamicLast })
}

// get sends a GET and reads the response. An answer is whole, or proves nothing: the manager's
// probe reads to its end too.
func (e endpoint) get(conn net.Conn, address string, expect int) (heard, error) {
	bearer := ""
	if e.key != "" {
		bearer = "Authorization: Bearer " + e.key + "\r\n"
	}
	if _, err := fmt.Fprintf(conn,
		"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: pool-gate\r\n%sConnection: close\r\n\r\n",
		e.path, address, bearer); err != nil {
		return heard{}, err
	}
	answer := bufio.NewReaderSize(conn, http1.ReadSize)
	line, err := answer.ReadSlice('\n')
	if err != nil && len(line) == 0 {
		return heard{}, err
	}
	status, err := parseStatus(string(line))
	switch {
	case err != nil:
		return heard{}, err
	case status != expect:
		return e.status(status, answer), nil
	}
	head, err := http1.ReadFields(answer, line)
	var body []byte
	if err == nil {
		body, _, err = head.Body(answer, nil, bounds.HealthBody)
	}
	switch {
	case err != nil:
		return e.unfinished(status, err), nil
	case e.body != nil && !e.body.Match(body):
		return heard{Loading, true, exit.OtherBody,
			fmt.Sprintf("status %d at %s, and a body that does not match [health] body", status, e.path)}, nil
	}
	return heard{answer: Healthy, reached: true}, nil
}

// parseStatus reads "HTTP/1.1 200 OK".
func parseStatus(line string) (int, error) {
	f := strings.Fields(line)
	if len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/1.") {
		return 0, notHTTP(line)
	}
	status, err := strconv.Atoi(f[1])
	if err != nil || status < 100 || status > 599 {
		return 0, notHTTP(line)
	}
	return status, nil
}
