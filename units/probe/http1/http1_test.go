package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// parsed is what the parser makes of a stream of answers: its first one.
func parsed(stream string, limit int) (status int, body string, again bool, err error) {
	r := bufio.NewReaderSize(strings.NewReader(stream), ReadSize)
	h, err := ReadHead(r)
	if err != nil {
		return 0, "", false, err
	}
	got, again, err := h.Body(r, nil, limit)
	return h.Status, string(got), again && r.Buffered() == 0, err
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 3*ReadSize)
	cases := []struct {
		name, stream string
		status       int
		body         string
		again        bool
		fails        error // nil: the answer is read
	}{
		{"sized", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, nil},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true, nil},
		{"without_a_reason", "HTTP/1.1 503\r\ncontent-length:0\r\n\r\n", 503, "", true, nil},
		{"bare_newlines", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", true, nil},
		{"no_body_by_its_status", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, nil},
		{"the_end_of_the_connection_ends_it", "HTTP/1.1 200 OK\r\n\r\nok", 200, "ok", false, nil},
		{"closed_by_the_engine", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: foo, Close\r\n\r\nok", 200, "ok", false, nil},
		{"of_http_1_0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false, nil},
		{"of_http_1_0_that_is_kept", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", 200, "ok", true, nil},
		{"of_http_1_0_that_says_chunked", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok", 200, "2\r\nok", false, nil},
		{"of_http_1_0_that_says_chunked_and_sized", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n" +
			"Content-Length: 2\r\n\r\nok", 200, "ok", false, nil},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n1 \r\n!\r\n0\r\nX: y\r\n\r\n", 200, "ok!", true, nil},
		{"chunked_and_sized", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", false, nil},
		{"informational_first", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, nil},
		{"another_protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", 101, "", false, nil},
		{"a_long_field", "HTTP/1.1 200 OK\r\nX: " + long + "\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, nil},
		{"one_length_twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, nil},
		{"bytes_behind_it", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 408 Timeout\r\n\r\n", 200, "ok", false, nil},
		{"longer_than_the_limit", "HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + strings.Repeat("y", 200), 200, strings.Repeat("y", 100), false, nil},
		{"chunks_beyond_the_limit", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc8\r\n" + strings.Repeat("y", 200), 200, strings.Repeat("y", 100), false, nil},

		{"cut_in_its_header", "HTTP/1.1 200 OK\r\nContent-Le", 0, "", false, io.ErrUnexpectedEOF},
		{"cut_behind_its_status", "HTTP/1.1 200 OK\r\n", 0, "", false, io.ErrUnexpectedEOF},
		{"cut_in_its_body", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 200, "ok", false, io.ErrUnexpectedEOF},
		{"cut_in_a_chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", 200, "ok", false, io.ErrUnexpectedEOF},
		{"cut_before_the_last_chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", 200, "ok", false, io.ErrUnexpectedEOF},
		{"nothing", "", 0, "", false, io.EOF},

		{"another_language", "SSH-2.0-OpenSSH\r\n", 0, "", false, ErrMalformed},
		{"http_2", "HTTP/2.0 200 OK\r\n\r\n", 0, "", false, ErrMalformed},
		{"a_status_of_four_digits", "HTTP/1.1 2000 OK\r\n\r\n", 0, "", false, ErrMalformed},
		{"a_status_of_words", "HTTP/1.1 abc OK\r\n\r\n", 0, "", false, ErrMalformed},
		{"a_line_without_a_colon", "HTTP/1.1 200 OK\r\nwhat\r\n\r\n", 0, "", false, ErrMalformed},
		{"a_space_before_the_colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", 0, "", false, ErrMalformed},
		{"a_folded_field", "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok", 0, "", false, ErrMalformed},
		{"two_lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 0, "", false, ErrMalformed},
		{"a_negative_length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", 0, "", false, ErrMalformed},
		{"a_length_beyond_all_bounds", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", 0, "", false, ErrMalformed},
		{"a_long_length", "HTTP/1.1 200 OK\r\nContent-Length: " + long + "\r\n\r\n", 0, "", false, ErrMalformed},
		{"another_encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 0, "", false, ErrMalformed},
		{"chunks_without_a_size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;x\r\n", 200, "", false, ErrMalformed},
		{"a_signed_chunk_size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n", 200, "", false, ErrMalformed},
		{"a_chunk_longer_than_it_says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", 200, "o", false, ErrMalformed},
		{"endless_informational", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), 0, "", false, ErrMalformed},
		{"an_endless_header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 10_000), 0, "", false, ErrMalformed},
		{"an_endless_line", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 2*bounds.Header), 0, "", false, ErrMalformed},
		{"chunks_of_extensions", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
			strings.Repeat("1;"+strings.Repeat("e", 1500)+"\r\ny\r\n", 99), 200, strings.Repeat("y", 10), false, ErrMalformed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, body, again, err := parsed(c.stream, 100)
			if status != c.status || body != c.body || again != c.again || !errors.Is(err, c.fails) {
				t.Errorf("%d %q again %t, %v; want %d %q again %t, %v", status, body, again, err, c.status, c.body,
					c.again, c.fails)
			}
		})
	}
}

// FuzzAnswer compares with the standard library: of an answer that both take, both see the same,
// and a connection that is used again has nothing left of the answer.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 503 Busy\r\nConnection: keep-alive\r\n\r\nwait",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	const limit = 1 << 10
	f.Fuzz(mutate.Many(func(t *testing.T, stream []byte) {
		status, body, again, err := parsed(string(stream), limit)
		if len(body) > limit || err != nil && again {
			t.Fatalf("%d bytes, again %t, %v", len(body), again, err)
		}
		if err != nil {
			return
		}
		theirs := bufio.NewReader(bytes.NewReader(stream))
		resp, err := http.ReadResponse(theirs, nil)
		for err == nil && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			resp, err = http.ReadResponse(theirs, nil)
		}
		if err != nil {
			return // it is stricter about names of fields
		}
		want, err := io.ReadAll(io.LimitReader(resp.Body, limit))
		if err != nil {
			return
		}
		if status != resp.StatusCode || status != http.StatusSwitchingProtocols && body != string(want) {
			t.Errorf("%d %q, and net/http reads %d %q", status, body, resp.StatusCode, want)
		}
		if again && (resp.Close || resp.ContentLength < 0 && len(resp.TransferEncoding) == 0) {
			t.Errorf("the connection is used again, and net/http closes it")
		}
	}))
}
