package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is the kind of an event.
type Kind string

// The kinds of events. A run prints any number of plans and progresses, and then one result or one
// error.
const (
	Plan     Kind = "plan"     // what there is to do; a later one replaces it
	Progress Kind = "progress" // about once a second
	Result   Kind = "result"   // all is there
	Failed   Kind = "error"    // why it is not
	Hosts    Kind = "hosts"    // answer to "pool-fetch resolve"
)

// Reason is why a fetch failed; the set is part of the protocol.
type Reason string

// The reasons.
const (
	NotFound       Reason = "not_found"
	Unauthorized   Reason = "unauthorized"
	Gated          Reason = "gated" // the owner has to accept the user first
	RateLimited    Reason = "rate_limited"
	NoSpace        Reason = "no_space"
	DigestMismatch Reason = "digest_mismatch"
	HostDenied     Reason = "host_denied" // a redirect to a host that the request does not name
	TooLarge       Reason = "too_large"
	AddressStale   Reason = "address_stale" // no address of a host answers: resolve again
	Network        Reason = "network"
	BadAnswer      Reason = "bad_answer"
	BadRequest     Reason = "bad_request"
	Interrupted    Reason = "interrupted"  // by a signal
	Busy           Reason = "busy"         // another program fetches into the same directory
	CacheFailed    Reason = "cache_failed" // the cache cannot be read or written
	BadImage       Reason = "bad_image"    // a container image that is not unpacked
)

// exits is the exit status that goes with each reason.
var exits = map[Reason]int{
	NotFound: ExitFailed, Unauthorized: ExitFailed, Gated: ExitFailed, DigestMismatch: ExitFailed, HostDenied: ExitFailed,
	TooLarge: ExitFailed, BadRequest: ExitUsage, CacheFailed: ExitFailed, BadImage: ExitFailed,
	RateLimited: ExitLater, NoSpace: ExitLater, AddressStale: ExitLater, Network: ExitLater, BadAnswer: ExitLater,
	Interrupted: ExitLater, Busy: ExitLater,
}

// Exit returns the exit status of a program that fails for the reason.
func (r Reason) Exit() int {
	if status, ok := exits[r]; ok {
		return status
	}
	return ExitFailed
}

// Temporary reports whether the same request may succeed later, without a change.
func (r Reason) Temporary() bool { return r.Exit() == ExitLater }

// Event is one line. Which fields it has depends on its kind.
type Event struct {
	Kind Kind `json:"event"`

	Commit  string `json:"commit,omitempty"`           // plan, result: name of the snapshot
	Files   int    `json:"files,omitempty"`            // plan, result
	Total   int64  `json:"total_bytes,omitempty"`      // plan, progress: 0 where it is unknown
	Present int64  `json:"present_bytes,omitempty"`    // plan: of them already on disk
	Bytes   int64  `json:"bytes,omitempty"`            // progress: on disk; result: of all files
	Rate    int64  `json:"rate_bytes_per_s,omitempty"` // progress
	File    string `json:"file,omitempty"`             // progress: the one that is written
	Path    string `json:"path,omitempty"`             // result: absolute, what an engine opens
	Digest  string `json:"digest,omitempty"`           // result: of the only file
	// PeerBytes is, of a result, what of this run's came from peers.
	PeerBytes int64 `json:"peer_bytes,omitempty"`

	Reason       Reason `json:"reason,omitempty"`
	Host         string `json:"host,omitempty"` // host_denied: the host that was not in the request
	Message      string `json:"message,omitempty"`
	Hint         string `json:"hint,omitempty"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`

	Hosts map[string][]string `json:"hosts,omitempty"`
}

// Append appends the event as a line. Texts are shortened so that no reader refuses it.
func (e Event) Append(line []byte) []byte {
	e.Message, e.Hint = Text(e.Message, 1000), Text(e.Hint, 400)
	if e.Kind == Progress {
		e.File = Text(e.File, 400) // to look at only
	}
	data, err := json.Marshal(e)
	if err != nil || len(data) >= MaxLine {
		data, _ = json.Marshal(Event{Kind: e.Kind, Reason: e.Reason, Commit: Text(e.Commit, maxCommit),
			Message: Text(e.Message, 200)})
	}
	return append(append(line, data...), '\n')
}

// Text makes a text safe to print, as one line of at most n bytes.
func Text(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= n {
		return s
	}
	const more = "…"
	cut := n - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

func isText(s string, n int) bool { return len(s) <= n && Text(s, n) == s }

// Bounds of an event's fields.
const (
	maxCommit = 128
	maxBytes  = 1 << 60
	maxFiles  = 1 << 24
	maxPause  = 7 * 24 * 3600 * 1000 // a week in milliseconds
)

// Parse reads one line without its newline. It is strict: an error means that the line counts as
// not printed. Unknown fields are ignored, so that later versions may add some.
func Parse(line []byte) (Event, error) {
	if len(line) > MaxLine {
		return Event{}, fmt.Errorf("a line of more than %d bytes", MaxLine)
	}
	var e Event
	if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
		return Event{}, fmt.Errorf("a line that is no event in JSON: %w", err)
	}
	if err := e.check(); err != nil {
		return Event{}, err
	}
	return e, nil
}

func (e *Event) check() error {
	for _, n := range []int64{e.Total, e.Present, e.Bytes, e.Rate, e.PeerBytes} {
		if n < 0 || n > maxBytes {
			return fmt.Errorf("%.20q has a number out of bounds", e.Kind)
		}
	}
	if e.Files < 0 || e.Files > maxFiles || e.RetryAfterMS < 0 || e.RetryAfterMS > maxPause {
		return fmt.Errorf("%.20q has a number out of bounds", e.Kind)
	}
	for _, s := range []string{e.Commit, e.File, e.Path, e.Digest, string(e.Reason), e.Message, e.Hint, e.Host} {
		if !isText(s, MaxLine) {
			return fmt.Errorf("%.20q has a text with control characters", e.Kind)
		}
	}
	switch e.Kind {
	case Plan, Result:
		return e.checkSnapshot()
	case Progress:
		return nil
	case Failed:
		if _, known := exits[e.Reason]; !known {
			return fmt.Errorf("an error with the unknown reason %.40q", e.Reason)
		}
		return nil
	case Hosts:
		return checkHosts(e.Hosts)
	}
	return fmt.Errorf("an event of the unknown kind %.40q", e.Kind)
}

func (e *Event) checkSnapshot() error {
	if len(e.Commit) > maxCommit || strings.ContainsAny(e.Commit, "/\\") || e.Commit == "." || e.Commit == ".." {
		return fmt.Errorf("%s has a commit that is not one plain name", e.Kind)
	}
	if e.Kind == Plan {
		return nil
	}
	switch {
	case e.Commit == "":
		return errors.New("a result without a commit")
	case !filepath.IsAbs(e.Path) || filepath.Clean(e.Path) != e.Path:
		return errors.New("a result whose path is not absolute and plain")
	case e.Digest != "" && !isDigest(e.Digest):
		return errors.New("a result whose digest is not sha256: and 64 hexadecimal digits")
	}
	return nil
}

// In reports whether a result is inside the directory that its request named: nothing else of what
// a program prints leads an engine to a file.
func (e Event) In(r Request) bool {
	dir := filepath.Join(r.CacheDir, r.Directory, "snapshots", e.Commit)
	return e.Kind == Result && (e.Path == dir || strings.HasPrefix(e.Path, dir+"/"))
}
