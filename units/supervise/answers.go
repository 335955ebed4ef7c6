package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// question is one question to an engine beside its health probe. The value is read by read; an
// answer that is not believed is recorded for the run.
type question struct {
	subject  bounds.Subject
	endpoint string
	path     string // empty: the engine does not answer it
	timeout  time.Duration
	read     func(body []byte) error
}

// errNotAsked: the engine has no such endpoint.
var errNotAsked = errors.New("the engine has no such endpoint")

// askEngine runs beside the loop. It returns nil if the value was read.
func (s *Supervisor) askEngine(ctx context.Context, r *replica, run string, q question) error {
	if q.path == "" {
		return errNotAsked
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	body, err := s.o.Prober.Get(ctx, q.endpoint+q.path, bounds.Answer)
	if err == nil {
		err = bounds.About(q.subject, q.read(body))
	}
	if text := s.refusal(err); text != "" {
		s.post(func() { s.refused(r, run, q.subject, text) })
	}
	return err
}

// refusal returns why an answer is not believed, "" where it is, or where there is none.
func (s *Supervisor) refusal(err error) string {
	var r *bounds.Refused
	switch {
	case errors.As(err, &r):
		return r.Text
	case errors.Is(err, probe.ErrTooLong), err != nil && s.o.Prober.Reason(err) == probe.ReasonHTTP:
		return err.Error()
	}
	return ""
}

// refused records, on the loop, an answer that was not believed: once for each subject in a run.
func (s *Supervisor) refused(r *replica, run string, subject bounds.Subject, text string) {
	if r.run.id != run || r.run.refused[subject] != "" {
		return
	}
	if r.run.refused == nil {
		r.run.refused = make(map[bounds.Subject]string)
	}
	r.run.refused[subject] = text
	s.o.Log.Warn(fmt.Sprintf("an answer of the engine about its %s is not believed: %s", subject, text),
		append(s.about(r), "subject", string(subject), "hint", refusedHint)...)
	s.o.Observer.AnswerRefused(*r.entry.last, string(subject))
	s.settle(r)
}

const refusedHint = "The engine is broken, of an unknown version, or was taken over: check its binary and its log. " +
	"The value is treated as unknown."

// refusedAnswers lists what was not believed in this run.
func (r *replica) refusedAnswers() []string {
	var out []string
	for _, subject := range slices.Sorted(maps.Keys(r.run.refused)) {
		out = append(out, string(subject)+": "+r.run.refused[subject])
	}
	return out
}
