package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// Bounds of one answer.
const (
	lineMost   = 64 << 10
	answerMost = 8 << 20
)

// refusedError is an answer other than 200.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("the engine refused the benchmark's request: status %d %s", e.status, bounds.Quote(e.text))
}

// unfit reports whether an error says that the engine will not take such requests at all.
func unfit(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.status >= 400 && refused.status < 500 &&
		refused.status != http.StatusTooManyRequests && refused.status != http.StatusRequestTimeout
}

// stream makes one request and reads its answer to the end.
func (b *Bench) stream(ctx context.Context, t Target, body []byte) (perf.Stream, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.Endpoint+t.Ask.Path, bytes.NewReader(body))
	if err != nil {
		return perf.Stream{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	if t.Key != nil {
		req.Header.Set("Authorization", "Bearer "+t.Key())
	}
	s := perf.Stream{Sent: time.Now()}
	resp, err := b.o.Client.Do(req)
	if err != nil {
		return perf.Stream{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, lineMost)) // it only explains
		return perf.Stream{}, &refusedError{resp.StatusCode, string(bytes.TrimSpace(text))}
	}
	err = readStream(resp.Body, &s, time.Now)
	return s, err
}

// counted counts reads, of which each may bring several outputs.
type counted struct {
	from io.Reader
	n    int
}

func (c *counted) Read(p []byte) (int, error) {
	c.n++
	return c.from.Read(p)
}

// readStream reads events until the engine ends the stream, and fills in when its outputs arrived
// and how many tokens there were. An engine that does not count them sends one with each output.
func readStream(body io.Reader, s *perf.Stream, now func() time.Time) error {
	reads := &counted{from: io.LimitReader(body, answerMost)}
	lines := bufio.NewScanner(reads)
	lines.Buffer(make([]byte, 4096), lineMost)
	outputs, ended, read := 0, false, 0 // read: the read that brought the last output
	for lines.Scan() {
		data, is := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		data = bytes.TrimSpace(data)
		switch {
		case !is || len(data) == 0:
			continue
		case string(data) == "[DONE]":
			ended = true
			continue
		}
		c, err := engine.ReadChunk(data)
		if err != nil {
			return err
		}
		if c.Output {
			s.End = now()
			if outputs == 0 {
				s.First = s.End
			} else if read == reads.n {
				s.Late++
			}
			read = reads.n
			outputs++
		}
		s.Prompt, s.Output = max(s.Prompt, c.Prompt), max(s.Output, c.Tokens)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the engine's stream: %w", err)
	}
	if !ended && s.Output == 0 {
		return errors.New("the engine's stream ended early")
	}
	if s.Output == 0 {
		s.Output = outputs
	}
	return nil
}
