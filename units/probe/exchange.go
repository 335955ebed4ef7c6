package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/units/probe/http1"
)

// tlsPrefix is before a host that is asked with TLS.
const tlsPrefix = "https://"

// question is one HTTP request.
type question struct {
	method string
	host   string // "127.0.0.1:21000"; with the prefix "https://": TLS
	target string // the path and the query
	json   []byte // the body of a POST
	key    string // sent as a bearer token; empty: none
	close  bool   // no connection stays open
	limit  int    // how much of the answer's body is read, in bytes
}

// answer is the HTTP response. Its body is valid until its scratch is reused.
type answer struct {
	status int
	body   []byte
	err    error // the body could not be read to its end, or to the limit
}

// scratch is the memory of one exchange. An idle connection has none.
type scratch struct {
	in   *bufio.Reader
	out  []byte
	body []byte
}

func newScratch() *scratch { return &scratch{in: bufio.NewReaderSize(nil, http1.ReadSize)} }

var scratches = sync.Pool{New: func() any { return newScratch() }}

// mostKept is the largest body buffer that a scratch keeps, in bytes.
const mostKept = 4 << 10

func (s *scratch) release() {
	s.in.Reset(nil)
	if cap(s.body) > mostKept {
		s.body = nil
	}
	if cap(s.out) > mostKept {
		s.out = nil
	}
	scratches.Put(s)
}

// ask sends a request with the engine's key. One that is refused is sent once more if another key
// was written down since.
func (p *Prober) ask(ctx context.Context, q question, s *scratch) (answer, error) {
	k := p.keys.at(q.host)
	q.key = k.use()
	a, err := p.askOnce(ctx, q, s)
	if k == nil || err != nil || !wantsKey(a.status) {
		return a, err
	}
	other := k.other(q.key)
	if other == "" {
		return a, err
	}
	q.key = other
	if a, err = p.askOnce(ctx, q, s); err == nil && !wantsKey(a.status) {
		k.took(other)
	}
	return a, err
}

// askOnce sends a request and reads the response, over the engine's idle connection if there is
// one. The engine may close an idle connection just as it is used: a GET is then sent once more
// over a new one, if no byte of a response was received.
func (p *Prober) askOnce(ctx context.Context, q question, s *scratch) (answer, error) {
	if strings.HasPrefix(q.host, tlsPrefix) {
		return p.askTLS(ctx, q)
	}
	if err := q.clean(); err != nil {
		return answer{}, err
	}
	s.write(q)
	if conn := p.dialed.take(q.host); conn != nil {
		a, err := p.exchange(ctx, conn, q, s, nil)
		if q.method != http.MethodGet || !errors.As(err, new(unanswered)) {
			return a, err
		}
	}
	conn, err := p.dialed.fresh(ctx, "tcp", q.host)
	if err != nil {
		return answer{}, err
	}
	return p.exchange(ctx, conn, q, s, nil)
}

// unanswered: the connection ended before the first byte of a response.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// beforeAnswer wraps an error before the first byte as unanswered if the connection has ended.
func beforeAnswer(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return unanswered{err}
	}
	return err
}

// clean escapes the target for a request line, as net/http does.
func (q *question) clean() error {
	if q.target != "" && q.target[0] == '/' && strings.IndexFunc(q.target, suspect) < 0 {
		return nil
	}
	u, err := url.Parse("http://" + q.host + q.target)
	if err != nil {
		return err
	}
	q.target = u.RequestURI()
	return nil
}

func suspect(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`%#"<>\^{|}`+"`", r) }

// write puts the request into out.
func (s *scratch) write(q question) {
	b := append(s.out[:0], q.method...)
	b = append(append(b, ' '), q.target...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), q.host...)
	b = append(b, "\r\nUser-Agent: "+userAgent+"\r\n"...)
	if q.method != http.MethodGet {
		b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(q.json)), 10), "\r\n"...)
	}
	if q.key != "" {
		b = append(append(append(b, "Authorization: Bearer "...), q.key...), "\r\n"...)
	}
	if q.close {
		b = append(b, "Connection: close\r\n"...)
	}
	s.out = append(append(b, "\r\n"...), q.json...)
}

// exchange sends the request in out and reads the response, or, where some of the response was
// received already, only the rest of it. It keeps or closes the connection.
func (p *Prober) exchange(ctx context.Context, conn *connection, q question, s *scratch, got []byte) (a answer,
	err error) {
	again := false
	defer func() {
		if again {
			p.dialed.keep(conn)
		} else {
			_ = conn.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return answer{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() {
			again = false // its deadline is in the past, or is about to be
		}
	}()
	if got == nil {
		a, again, err = s.roundTrip(conn, q)
	} else {
		s.in.Reset(io.MultiReader(bytes.NewReader(got), conn))
		a, again, err = s.read(q)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return a, err
}

// roundTrip writes and reads.
func (s *scratch) roundTrip(conn net.Conn, q question) (a answer, again bool, err error) {
	if _, err := conn.Write(s.out); err != nil {
		return answer{}, false, beforeAnswer(err)
	}
	s.in.Reset(conn)
	if _, err := s.in.Peek(1); err != nil {
		return answer{}, false, beforeAnswer(err)
	}
	return s.read(q)
}

// read reads a response. An error means that no complete header was received.
func (s *scratch) read(q question) (a answer, again bool, err error) {
	h, err := http1.ReadHead(s.in)
	if err != nil {
		return answer{}, false, err
	}
	a.status = h.Status
	s.body, again, a.err = h.Body(s.in, s.body[:0], q.limit)
	a.body = s.body
	// Data after the response belongs to no request.
	return a, again && !q.close && s.in.Buffered() == 0, nil
}

// askTLS sends a request to an external engine with TLS. These are few, so they use the library's
// client.
func (p *Prober) askTLS(ctx context.Context, q question) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, q.host+q.target, bytes.NewReader(q.json))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("User-Agent", userAgent)
	if q.method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.key != "" {
		req.Header.Set("Authorization", "Bearer "+q.key)
	}
	req.Close = q.close
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(q.limit)))
	return answer{resp.StatusCode, body, err}, nil
}
