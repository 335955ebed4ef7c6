package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answerLimit bounds what is read of an answer, in bytes: it is only quoted in an error.
const answerLimit = 4 << 10

// quoted bounds how much of a refusal's text is logged, in bytes.
const quoted = 200

// refusal is an answer that is no success.
type refusal struct {
	method, path string
	status       int
	text         string
	after        time.Duration // Retry-After; 0: none
}

// Error has the status and the beginning of the text.
func (r *refusal) Error() string {
	if r.text == "" {
		return fmt.Sprintf("%s %s: status %d", r.method, r.path, r.status)
	}
	return fmt.Sprintf("%s %s: status %d: %s", r.method, r.path, r.status, r.text)
}

// send sends one request, with a body of JSON unless it is nil.
func (r *Reporter) send(ctx context.Context, method, path string, body any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(r.o.URL, "/")+path, content)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.o.Token)
	}
	resp, err := r.o.HTTP.Do(req)
	if err != nil {
		return err // has method and URL
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if resp.StatusCode/100 == 2 {
		return nil
	}
	if err != nil {
		text = nil // the status is enough
	}
	return &refusal{method, path, resp.StatusCode, oneLine(text), retryAfter(resp.Header.Get("Retry-After"))}
}

// oneLine is a text of another program as part of a log line.
func oneLine(text []byte) string {
	line := strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " ")
	if len(line) > quoted {
		line = strings.ToValidUTF8(line[:quoted], "") + "…"
	}
	return line
}

// retryAfter reads Retry-After in seconds; a date is not followed, since clocks differ.
func retryAfter(header string) time.Duration {
	seconds, err := strconv.Atoi(header)
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
