package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// refused returns the failure that an answer's status means, the same for all sources: what a hub
// adds is in hub.go. A nil failure is a status without an error.
func refused(host string, resp *http.Response) *Failure {
	status := resp.StatusCode
	switch {
	case status < 300:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return &Failure{Reason: wire.Unauthorized, Message: fmt.Sprintf("%s refuses access (%d)", host, status),
			Hint: "Check the credentials, and that they may read it."}
	case status == http.StatusNotFound || status == http.StatusGone:
		return &Failure{Reason: wire.NotFound, Message: fmt.Sprintf("%s does not have it (%d)", host, status),
			Hint: "Check the reference."}
	case status == http.StatusTooManyRequests:
		return &Failure{Reason: wire.RateLimited, Message: host + " limits the rate of requests",
			Hint: "Wait; a token raises the limit.", Pause: pause(resp.Header), again: true}
	case status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		return &Failure{Reason: wire.Network, Message: host + " is not available (503)", Pause: pause(resp.Header),
			Hint: "Wait.", again: true}
	case status == http.StatusRequestTimeout || status >= 500:
		return &Failure{Reason: wire.Network, Message: fmt.Sprintf("%s failed (%d)", host, status), again: true,
			Hint: "Try again later."}
	}
	f := badAnswer(host, "answers with the status %d", status)
	f.again = false
	return f
}

// rateLimit is the header of draft-ietf-httpapi-ratelimit-headers, as the hub sends it with every
// answer: "api";r=0;t=55.
var rateLimit = regexp.MustCompile(`;\s*r=0\s*;\s*t=([0-9]{1,6})`)

// maxPause bounds what a server may ask for.
const maxPause = 24 * time.Hour

// pause returns how long a server asks to wait, 0 if it does not.
func pause(h http.Header) time.Duration {
	if m := rateLimit.FindStringSubmatch(h.Get("Ratelimit")); m != nil {
		s, _ := strconv.Atoi(m[1]) // at most six digits
		return min(time.Duration(s)*time.Second, maxPause)
	}
	after := h.Get("Retry-After")
	if s, err := strconv.ParseUint(after, 10, 32); err == nil {
		return min(time.Duration(s)*time.Second, maxPause)
	}
	if at, err := http.ParseTime(after); err == nil {
		return min(max(time.Until(at), 0), maxPause)
	}
	return 0
}

// retry calls try until it succeeds, until its failure is lasting, or until it failed too often in
// a row without progress.
func (f *fetcher) retry(ctx context.Context, try func() (progress bool, err error)) error {
	backoff := f.set.backoff
	for failed := 1; ; failed++ {
		progress, err := try()
		var why *Failure
		if err == nil || ctx.Err() != nil || !errors.As(err, &why) || !why.again {
			return cancelled(ctx, err)
		}
		if progress {
			failed, backoff = 1, f.set.backoff
		}
		wait := backoff/2 + rand.N(backoff/2+1)
		if why.Pause > 0 {
			wait = why.Pause
		}
		if failed >= f.set.tries || wait > f.set.pause {
			return err
		}
		f.log.Printf("%v; retrying in %v", err, wait.Round(time.Millisecond))
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		backoff = min(2*backoff, f.set.pause)
	}
}

// cancelled returns why a fetch was cancelled instead of what failed because of that.
func cancelled(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// maxJSON bounds one answer that is kept in memory: a page of the hub's tree has a thousand files.
const maxJSON = 32 << 20

// readJSON reads an answer in JSON, within its bound.
func readJSON(host string, resp *http.Response, into any) error {
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxJSON+1))
	var f *Failure
	switch {
	case errors.As(err, &f):
		return f
	case err != nil:
		return badAnswer(host, "sent an answer that ends early")
	case len(data) > maxJSON:
		return badAnswer(host, "sent more than %d bytes where a list was expected", maxJSON)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return badAnswer(host, "sent no JSON where a list was expected")
	}
	return nil
}

// nextPage returns the address in a Link header with rel="next" (RFC 8288), nil at the last page.
func nextPage(u *url.URL, h http.Header) (*url.URL, error) {
	for part := range strings.SplitSeq(strings.Join(h.Values("Link"), ","), ",") {
		address, params, _ := strings.Cut(strings.TrimSpace(part), ">")
		address, found := strings.CutPrefix(address, "<")
		if !found || !strings.Contains(strings.ReplaceAll(params, " ", ""), `rel="next"`) {
			continue
		}
		next, err := u.Parse(address)
		if err != nil || !sameOrigin(u, next) {
			return nil, badAnswer(u.Hostname(), "sent a list that goes on elsewhere")
		}
		return next, nil
	}
	return nil, nil
}
