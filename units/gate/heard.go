package gate

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// notHTTP is the first line of an answer that is not HTTP.
type notHTTP string

func (n notHTTP) Error() string {
	return fmt.Sprintf("an answer that is not HTTP (%q)", cut(string(n), 40))
}

// moreOf is how much of an answer is read to explain its status, in bytes.
const moreOf = 2 << 10

var (
	location = pattern.Lazy(`(?im)^location:[ \t]*([!-~]{1,100})`)
	// "Client sent an HTTP request to an HTTPS server." of Go, "The plain HTTP request was sent to
	// HTTPS port" of nginx, "speaking plain HTTP to an SSL-enabled server port" of Apache.
	wantsTLS = pattern.Lazy(`(?i)\bHTTP\b.*\b(?:HTTPS|SSL|TLS)\b`)
)

// status explains an answer with another status than the expected one. An engine that loads answers
// 503, or 500 where it has no better word for it.
func (e endpoint) status(status int, rest io.Reader) heard {
	h := heard{answer: Loading, reached: true, text: fmt.Sprintf("status %d at %s", status, e.path)}
	switch {
	case status == 404:
		h.what = exit.NotFound
	case status == 401, status == 403:
		h.what = exit.Unauthorized
	case 300 <= status && status < 400:
		h.what = exit.Redirect
		more, _ := io.ReadAll(io.LimitReader(rest, moreOf)) // what there is of it
		if m := location().FindSubmatch(more); m != nil {
			h.text += ", a redirect to " + string(m[1])
		}
	case status == 400:
		h.what = exit.OtherStatus
		more, _ := io.ReadAll(io.LimitReader(rest, moreOf)) // what there is of it
		if wantsTLS().Match(more) {
			h.what, h.text = exit.TLS, e.speaksTLS()
		}
	case status < 500:
		h.what = exit.OtherStatus
	}
	return h
}

func (e endpoint) speaksTLS() string { return fmt.Sprintf("port %d speaks TLS", e.port) }

// unanswered explains a request without an answer in the protocol. A server that speaks TLS answers
// plain text with an alert, or closes the connection.
func (e endpoint) unanswered(err error, protocol string) heard {
	h := heard{reached: true}
	var other notHTTP
	switch {
	case errors.As(err, &other) && tlsRecord([]byte(other)):
		h.answer, h.what, h.text = Loading, exit.TLS, e.speaksTLS()
	case errors.As(err, &other):
		h.what, h.text = exit.NotHTTP, other.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.what = exit.Mute
		h.text = fmt.Sprintf("connections to %s are accepted, and not answered within %s", e.name(), askTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		h.what, h.text = exit.NotHTTP, fmt.Sprintf("%s closes connections without an answer in %s", e.name(), protocol)
		if e.answersTLS() {
			h.what, h.text = exit.TLS, e.speaksTLS()
		}
	case protocol != "HTTP":
		h.what, h.text = exit.NotHTTP, "an answer that is not "+protocol+": "+cut(err.Error(), 100)
	}
	return h
}

// unfinished explains an answer with the expected status that could not be read to its end.
func (e endpoint) unfinished(status int, err error) heard {
	why := "is not valid: " + cut(err.Error(), 100)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		why = "did not end within " + askTimeout.String()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		why = "ended before it was whole"
	}
	return heard{Loading, true, exit.Unfinished,
		fmt.Sprintf("status %d at %s, and an answer that %s", status, e.path, why)}
}

// name is where the engine is asked, in words.
func (e endpoint) name() string {
	if e.unix != "" {
		return "the engine's socket"
	}
	return net.JoinHostPort(e.host, strconv.Itoa(e.port))
}

// clientHello is the start of a TLS handshake (RFC 5246, section 7.4.1.2: TLS 1.2) with one cipher
// suite and no extension. Any server of TLS answers it with a record: its own hello, or an alert.
var clientHello = "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x03" + strings.Repeat("pool", 8) +
	"\x00\x00\x02\xc0\x2f\x01\x00"

// answersTLS reports whether the port answers the start of a TLS handshake.
func (e endpoint) answersTLS() bool {
	if e.unix != "" {
		return false
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(e.host, strconv.Itoa(e.port)), askTimeout)
	if err != nil {
		return false
	}
	defer conn.Close()
	record := make([]byte, 2)
	if conn.SetDeadline(time.Now().Add(askTimeout)) != nil {
		return false
	}
	if _, err := io.WriteString(conn, clientHello); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, record)
	return err == nil && tlsRecord(record)
}

// tlsRecord reports whether bytes begin as a record of an alert or a handshake (RFC 8446, section
// 5.1).
func tlsRecord(b []byte) bool { return len(b) > 1 && (b[0] == 21 || b[0] == 22) && b[1] == 3 }
