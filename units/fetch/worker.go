package fetch

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// Sizes in bytes.
const (
	chunk   = 256 << 10 // of one write
	maxSpan = 256 << 20 // of one request
)

// worker is one connection: it fetches parts, one after the other.
type worker struct {
	*fetcher
	queue  *queue
	buffer []byte
	span   int64 // bytes that it asks for next
}

// run fetches until nothing is left.
func (w *worker) run(ctx context.Context, begin func(*file) (*blob, error)) error {
	w.buffer = make([]byte, chunk)
	w.span = w.set.piece
	for {
		b, s, ok, err := w.queue.next(w.span, begin)
		if err != nil || !ok {
			return err
		}
		err = w.part(ctx, b, s)
		b.workers.Done()
		if err != nil {
			return err
		}
	}
}

// part fetches one part of a file, in as many requests as it takes.
func (w *worker) part(ctx context.Context, b *blob, s span) error {
	reached := s.at
	return w.retry(ctx, func() (bool, error) {
		if s.to < 0 && s.at > 0 {
			b.abandon(errRestart) // only from its beginning, and so is its sum
			return false, nil
		}
		from, begin, first := s.at, time.Now(), time.Duration(0)
		err := w.ask(ctx, b, &s, func() { first = time.Since(begin) })
		progress := s.at > reached
		reached = max(reached, s.at)
		if err == nil {
			w.adapt(s.at-from, first, time.Since(begin))
		}
		return progress, err
	})
}

// adapt makes the next request so large that waiting for its first byte is a twentieth of it: a
// small part of a fast server is hashed sooner, a distant one is asked less often.
func (w *worker) adapt(n int64, first, all time.Duration) {
	if n <= 0 || first <= 0 || all <= first {
		return
	}
	rate := float64(n) / (all - first).Seconds()
	w.span = min(max(int64(20*rate*first.Seconds()), w.set.piece), maxSpan)
}

// ask makes a request for what is left of a part, and another one where a peer failed.
func (w *worker) ask(ctx context.Context, b *blob, s *span, answered func()) error {
	for {
		at, err := w.where(ctx, b)
		if err != nil {
			return err
		}
		from := s.at
		err = w.askAt(ctx, b, s, at, answered)
		if at.peer == nil {
			return err
		}
		w.peers.took(b.file, at.peer, s.at-from)
		if err == nil || !w.peers.failed(ctx, b.file, at.peer, err) {
			return err
		}
		b.forget(at)
	}
}

func (w *worker) askAt(ctx context.Context, b *blob, s *span, at place, answered func()) error {
	header := at.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if !s.whole || s.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", s.at, s.to-1))
	}
	var resp *http.Response
	var err error
	from := at.url
	if at.peer != nil {
		resp, err = w.peers.get(ctx, at, header)
	} else {
		resp, from, err = w.client.follow(ctx, http.MethodGet, at.url, header)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answered()
	host := from.Hostname()
	if err := w.acceptable(host, b, at, resp); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusPartialContent {
		return w.ranged(ctx, host, b, s, resp)
	}
	return w.entire(ctx, host, b, s, resp)
}

// where returns where a file is, and asks for it if no worker has yet.
func (w *worker) where(ctx context.Context, b *blob) (place, error) {
	b.asking.Lock()
	defer b.asking.Unlock()
	if b.at == nil {
		if at, is := w.peers.place(b.file); is {
			b.at = &at
			return at, nil
		}
		at, err := w.source.place(ctx, b.file)
		if err != nil {
			return place{}, err
		}
		b.at = &at
	}
	return *b.at, nil
}

// forget drops a place, unless another worker has asked for a new one since.
func (b *blob) forget(at place) {
	b.asking.Lock()
	defer b.asking.Unlock()
	if b.at != nil && b.at.url == at.url {
		b.at = nil
	}
}

// acceptable checks an answer before its body is read. An address that was made for a while and is
// refused has expired: the source is asked for another.
func (w *worker) acceptable(host string, b *blob, at place, resp *http.Response) error {
	if f := refused(host, resp); f != nil {
		if at.signed && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			b.forget(at)
			return badAnswer(host, "refuses the address that it was named by (%d)", resp.StatusCode)
		}
		return f
	}
	if at.changed(resp.Header) {
		f := badAnswer(host, "has another file than before at this address")
		f.again = false
		return f
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return badAnswer(host, "answers with the status %d", resp.StatusCode)
	}
	return nil
}

// ranged takes a part of the file.
func (w *worker) ranged(ctx context.Context, host string, b *blob, s *span, resp *http.Response) error {
	from, size, err := contentRange(host, resp)
	switch {
	case err != nil:
		return err
	case from != s.at || size >= 0 && size != b.file.size || resp.Header.Get("Content-Encoding") != "":
		return badAnswer(host, "sent another part of %s than was asked for (%.80s)", b.file.path,
			wire.Text(resp.Header.Get("Content-Range"), 80))
	}
	return w.copy(ctx, host, b, s, resp.Body)
}

// entire takes a whole file: because all of it was asked for, or because the server ignores ranges.
// Then one worker alone takes it, from its beginning.
func (w *worker) entire(ctx context.Context, host string, b *blob, s *span, resp *http.Response) error {
	if !s.whole || s.at > 0 {
		if s.to >= 0 && !s.whole {
			if !b.only() {
				s.at = s.to // left to the other
				return nil
			}
			w.log.Printf("%s serves %s without ranges", host, b.file.path)
		}
		*s = span{0, b.file.size, true}
	}
	length := resp.ContentLength
	body := io.Reader(resp.Body)
	switch encoding := resp.Header.Get("Content-Encoding"); {
	case encoding == "gzip" || encoding == "x-gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return badAnswer(host, "sent something else than gzip, which it announced")
		}
		body, length = unpacked{z, host}, -1
	case encoding != "" && encoding != "identity":
		return badAnswer(host, "sent an encoding that was not asked for: %.40q", encoding)
	case length < 0 && len(resp.TransferEncoding) == 0 && b.file.sum.algorithm == "":
		return badAnswer(host, "sent neither the length of the file nor its end")
	}
	if s.to >= 0 && length >= 0 && length != s.to {
		return badAnswer(host, "sent %s with %d bytes, and described it with %d", b.file.path, length, s.to)
	}
	if err := w.copy(ctx, host, b, s, body); err != nil {
		return err
	}
	if n, _ := io.ReadFull(body, w.buffer[:1]); n > 0 {
		return badAnswer(host, "sent more of %s than it has", b.file.path)
	}
	return nil
}

// copy writes what is left of a part, or everything up to the end where that is unknown.
func (w *worker) copy(ctx context.Context, host string, b *blob, s *span, body io.Reader) error {
	for s.to < 0 || s.at < s.to {
		p := w.buffer[:w.limit.chunk(len(w.buffer))]
		if s.to >= 0 {
			p = p[:min(int64(len(p)), s.to-s.at)]
		}
		if err := w.limit.take(ctx, len(p)); err != nil {
			return err
		}
		n, err := io.ReadFull(body, p)
		if n > 0 {
			if err := b.write(p[:n], s.at); err != nil {
				return err
			}
			s.at += int64(n)
		}
		if m := w.request.MaxBytes; s.to < 0 && m > 0 && s.at > m {
			return tooLarge(b.file.path, s.at, m)
		}
		var f *Failure // of the connection; without one, the body has ended
		switch {
		case err == nil:
		case errors.As(err, &f) || ctx.Err() != nil:
			return err
		case s.to < 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
			s.to = s.at
			b.ends(s.at)
			return nil
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return lost(host+" cut the connection", nil)
		default:
			return err
		}
	}
	return nil
}

// unpacked is what gzip packed; an error of its form is one of the server.
type unpacked struct {
	*gzip.Reader
	host string
}

func (u unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	var f *Failure
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &f) {
		err = badAnswer(u.host, "sent something else than gzip, which it announced")
	}
	return n, err
}
