package api

import (
	"sync"
	"time"
)

// repeatEvery is the least time between two log lines about one caller and one subject.
const repeatEvery = time.Minute

// repeatKeys bounds how many callers have a line of their own.
const repeatKeys = 256

// subject is what a line is about.
type subject int

const (
	subjectDenied subject = iota
	subjectConnections
	subjectStreams
)

// repeatKey is a caller and a subject.
type repeatKey struct {
	subject subject
	account account
}

// repeats lets one line through for each caller, subject and minute, and counts the others: a
// caller must not be able to fill the log, whose limits would then drop the daemon's own lines.
type repeats struct {
	mu    sync.Mutex
	known map[repeatKey]*repeated
}

// repeated is one caller's count.
type repeated struct {
	until time.Time // no line before
	count int       // since the last line
}

// pass reports whether to log now, and how many times the subject came up since the last line, this
// time included.
func (r *repeats) pass(k repeatKey, now time.Time) (count int, log bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = make(map[repeatKey]*repeated)
	}
	was := r.known[k]
	if was == nil {
		if len(r.known) >= repeatKeys {
			k.account = account{kind: accountOthers}
		}
		if was = r.known[k]; was == nil {
			was = &repeated{}
			r.known[k] = was
		}
	}
	was.count++
	if now.Before(was.until) {
		return was.count, false
	}
	count = was.count
	was.count, was.until = 0, now.Add(repeatEvery)
	return count, true
}

// due returns the counts whose minute is over and that no line has reported, and forgets callers
// without any.
func (r *repeats) due(now time.Time) map[repeatKey]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[repeatKey]int)
	for k, was := range r.known {
		switch {
		case now.Before(was.until):
		case was.count == 0:
			delete(r.known, k)
		default:
			out[k] = was.count
			was.count, was.until = 0, now.Add(repeatEvery)
		}
	}
	return out
}
