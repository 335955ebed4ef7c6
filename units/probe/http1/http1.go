// Package http1 reads responses of HTTP/1.x (RFC 9112), for the manager's probe and for the gate,
// so that both take the same answers.
//
// It owns the form of a response and its bounds. It must not know connections or what is asked. The
// library of Go reads the same, and takes several megabytes in the gate and more memory for each of
// a thousand probes.
package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// mostHeads bounds the headers of a response: informational answers (1xx) and the final one.
const mostHeads = 6

// ReadSize is the size of the buffer of a reader, in bytes.
const ReadSize = 2 << 10

// ErrMalformed: a response is not valid HTTP/1.x (RFC 9112).
var ErrMalformed = errors.New("malformed HTTP")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Head is the relevant part of a response header.
type Head struct {
	Status  int
	minor   byte // of HTTP/1.x, as a digit
	length  int64
	sized   bool // length was given
	chunked bool
	closes  bool // the connection ends with this response
	keeps   bool // HTTP/1.0: keep-alive
}

// ReadHead reads the header of the final response.
func ReadHead(r *bufio.Reader) (h Head, err error) {
	for range mostHeads {
		if h, err = readOneHead(r); err != nil {
			return Head{}, err
		}
		if h.Status >= 200 || h.Status == 101 {
			return h, nil
		}
	}
	return Head{}, malformed("more than %d informational answers", mostHeads-1)
}

func readOneHead(r *bufio.Reader) (Head, error) {
	left := bounds.Header
	line, err := readLine(r, &left)
	if err != nil {
		return Head{}, err
	}
	return readFields(r, line, left)
}

// ReadFields reads the rest of a header whose first line was read.
func ReadFields(r *bufio.Reader, line []byte) (Head, error) {
	return readFields(r, bytes.TrimRight(line, "\r\n"), bounds.Header)
}

func readFields(r *bufio.Reader, line []byte, left int) (Head, error) {
	h, err := statusLine(line)
	if err != nil {
		return Head{}, err
	}
	for {
		line, whole, err := readField(r, &left)
		if err != nil {
			return Head{}, cutShort(err)
		}
		if len(line) == 0 {
			return h, nil
		}
		if err := h.field(line, whole); err != nil {
			return Head{}, err
		}
	}
}

// statusLine reads "HTTP/1.1 200 OK".
func statusLine(line []byte) (Head, error) {
	rest, ok := bytes.CutPrefix(line, []byte("HTTP/1."))
	if !ok || len(rest) < len("1 200") || rest[0] < '0' || rest[0] > '9' || rest[1] != ' ' || len(rest) > 5 &&
		rest[5] != ' ' {
		return Head{}, malformed("status line %q", line[:min(len(line), bounds.Excerpt)])
	}
	status := 0
	for _, digit := range rest[2:5] {
		if digit < '0' || digit > '9' {
			return Head{}, malformed("status line %q", line[:min(len(line), bounds.Excerpt)])
		}
		status = status*10 + int(digit-'0')
	}
	if status < 100 {
		return Head{}, malformed("status %d", status)
	}
	return Head{Status: status, minor: rest[0]}, nil
}

// field handles one header field; if it is not whole, line is only its beginning.
func (h *Head) field(line []byte, whole bool) error {
	name, value, found := bytes.Cut(line, []byte(":"))
	if line[0] == ' ' || line[0] == '\t' {
		return malformed("a folded header field")
	}
	if !found || len(name) == 0 || bytes.ContainsAny(name, " \t") {
		return malformed("header field %q", line[:min(len(line), bounds.Excerpt)])
	}
	value = bytes.Trim(value, " \t")
	take := h.taker(name)
	switch {
	case take == nil:
		return nil
	case !whole:
		return malformed("a header field %s of more than %d bytes", name, ReadSize)
	}
	return take(value)
}

// taker returns the function that handles a field's value; nil: the field is ignored.
func (h *Head) taker(name []byte) func(value []byte) error {
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		return h.takeLength
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		return h.takeEncoding
	case bytes.EqualFold(name, []byte("Connection")):
		return h.takeConnection
	}
	return nil
}

func (h *Head) takeLength(value []byte) error {
	for _, c := range value {
		if c < '0' || c > '9' {
			return malformed("Content-Length %s", bounds.Quote(string(value)))
		}
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || h.sized && n != h.length {
		return malformed("Content-Length %s", bounds.Quote(string(value)))
	}
	h.length, h.sized = n, true
	return nil
}

// takeEncoding ignores the field of an HTTP/1.0 response, whose body is then what the connection
// brings, and the connection is not used again: such framing is faulty (RFC 9112, section 6.1).
func (h *Head) takeEncoding(value []byte) error {
	if h.minor == '0' {
		h.closes = true
		return nil
	}
	if h.chunked || !bytes.EqualFold(value, []byte("chunked")) {
		return malformed("Transfer-Encoding %s", bounds.Quote(string(value)))
	}
	h.chunked = true
	return nil
}

func (h *Head) takeConnection(value []byte) error {
	for token := range bytes.SplitSeq(value, []byte(",")) {
		token = bytes.Trim(token, " \t")
		h.closes = h.closes || bytes.EqualFold(token, []byte("close"))
		h.keeps = h.keeps || bytes.EqualFold(token, []byte("keep-alive"))
	}
	return nil
}

// Body appends at most limit bytes of the body to dst. again reports whether the connection can be
// reused: the body was read to its end, and neither side closes the connection.
func (h *Head) Body(r *bufio.Reader, dst []byte, limit int) (body []byte, again bool, err error) {
	again = !h.closes && (h.minor != '0' || h.keeps) && !(h.chunked && h.sized)
	switch {
	case h.Status == 101:
		return dst, false, nil
	case h.Status == 204 || h.Status == 304:
		return dst, again, nil
	case h.chunked:
		body, whole, err := readChunks(r, dst, limit)
		return body, again && whole && err == nil, err
	case h.sized:
		body, err := readSome(r, dst, int(min(h.length, int64(limit))))
		return body, again && h.length <= int64(limit) && err == nil, err
	}
	body, err = readSome(r, dst, limit)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // the body ends with the connection
	}
	return body, false, err
}

// readSome appends n bytes to dst.
func readSome(r *bufio.Reader, dst []byte, n int) ([]byte, error) {
	for n > 0 {
		have, err := r.Peek(min(max(r.Buffered(), 1), n))
		dst = append(dst, have...)
		n -= len(have)
		_, _ = r.Discard(len(have)) // it is buffered
		if errors.Is(err, io.EOF) {
			return dst, io.ErrUnexpectedEOF
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, nil
}

// readChunks reads a body in chunks; whole reports whether it ended within the limit.
func readChunks(r *bufio.Reader, dst []byte, limit int) (body []byte, whole bool, err error) {
	extra := bounds.Header
	for {
		line, err := readLine(r, &extra)
		if err != nil {
			return dst, false, cutShort(err)
		}
		size, err := chunkSize(line)
		switch {
		case err != nil:
			return dst, false, err
		case size == 0:
			return dst, true, skipTrailers(r)
		}
		n := int(min(size, uint64(limit)))
		if dst, err = readSome(r, dst, n); err != nil {
			return dst, false, err
		}
		if limit -= n; uint64(n) < size || limit == 0 {
			return dst, false, nil
		}
		extra = min(extra+2*n, bounds.Header) // large chunks may have more framing
		if line, err := readLine(r, &extra); err != nil {
			return dst, false, cutShort(err)
		} else if len(line) > 0 {
			return dst, false, malformed("a chunk longer than its size")
		}
	}
}

// chunkSize reads a chunk's size in hexadecimal; extensions behind a semicolon are ignored.
func chunkSize(line []byte) (uint64, error) {
	digits, _, _ := bytes.Cut(line, []byte(";"))
	digits = bytes.TrimRight(digits, " \t")
	size, err := strconv.ParseUint(string(digits), 16, 63)
	if err != nil || digits[0] == '+' {
		return 0, malformed("chunk size %q", line[:min(len(line), bounds.Excerpt)])
	}
	return size, nil
}

func skipTrailers(r *bufio.Reader) error {
	left := bounds.Header
	for {
		line, _, err := readField(r, &left)
		if err != nil || len(line) == 0 {
			return cutShort(err)
		}
	}
}

// cutShort converts an end of file in the middle of a response.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readLine returns a line without its end, which is valid until the next read. It subtracts the
// line's length from left.
func readLine(r *bufio.Reader, left *int) ([]byte, error) {
	line, whole, err := readField(r, left)
	if err == nil && !whole {
		return nil, malformed("a line of more than %d bytes", ReadSize)
	}
	return line, err
}

// readField is readLine for a line that may be longer than the buffer: then its beginning is
// returned, and whole is false.
func readField(r *bufio.Reader, left *int) (line []byte, whole bool, err error) {
	line, err = r.ReadSlice('\n')
	if *left -= len(line); *left < 0 {
		return nil, false, malformed("a header of more than %d bytes", bounds.Header)
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		begin := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = r.ReadSlice('\n')
			if *left -= len(line); *left < 0 {
				return nil, false, malformed("a header of more than %d bytes", bounds.Header)
			}
		}
		return begin, false, cutShort(err)
	}
	if err != nil {
		if len(line) > 0 {
			err = cutShort(err)
		}
		return nil, false, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), true, nil
}
