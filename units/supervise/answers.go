package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
		err = q.read(body)
	}
	err = s.believe(r, run, q.subject, err)
	if q.subject == bounds.OfSlots || q.subject == bounds.OfBusy {
		why := whyUnanswered(q.path, err)
		s.post(func() { s.unanswered(r, run, q.subject, why) })
	}
	return err
}

// believe runs beside the loop. It returns the error of an answer as one of the subject, and has an
// answer that is not believed recorded for the run.
func (s *Supervisor) believe(r *replica, run string, subject bounds.Subject, err error) error {
	err = bounds.About(subject, err)
	if text := s.refusal(err); text != "" {
		s.post(func() { s.refused(r, run, subject, text) })
	}
	return err
}

// whyUnanswered is why a question has no answer, "" where it has one.
func whyUnanswered(path string, err error) string {
	if err == nil {
		return ""
	}
	text, _, _ := strings.Cut(err.Error(), `"`) // without what the engine wrote, which may differ each time
	return path + ": " + strings.TrimRight(text[:min(len(text), 120)], " (,:")
}

// unanswered records, on the loop, that an engine could not be asked for something, or that it
// could be again. It is logged once for each subject and cause in a run.
func (s *Supervisor) unanswered(r *replica, run string, subject bounds.Subject, why string) {
	if r.run.id != run || r.run.unanswered[subject] == why {
		return
	}
	if why == "" {
		delete(r.run.unanswered, subject)
		s.settle(r)
		return
	}
	if r.run.unanswered == nil {
		r.run.unanswered = make(map[bounds.Subject]string)
	}
	r.run.unanswered[subject] = why
	// What is not believed is logged by itself, and an engine that changes its mind is not logged
	// each time.
	if said := string(subject) + " " + why; r.run.refused[subject] == "" && !slices.Contains(r.run.reported, said) &&
		len(r.run.reported) < maxCauses {
		r.run.reported = append(r.run.reported, said)
		s.o.Log.Warn("the engine does not report its "+subjectName(subject)+" ("+why+"); "+assumed(subject),
			append(s.about(r), "subject", string(subject), "hint", unansweredHint)...)
	}
	s.settle(r)
}

// subjectName is what an engine is asked for, in words.
func subjectName(of bounds.Subject) string {
	if of == bounds.OfBusy {
		return "requests under way"
	}
	return "number of slots"
}

// assumed is what follows where an engine does not report it.
func assumed(of bounds.Subject) string {
	if of == bounds.OfBusy {
		return "a drain waits for its deadline"
	}
	return "one request at a time is assumed unless slots is set"
}

const unansweredHint = "A status 401 wants a key that the manager does not have: give it to the engine as " +
	"api_key_file instead of in args. 404 or 501 means that a flag turned the endpoint off or moved it: take that " +
	"flag out of args. Or set slots."

// unansweredQuestions lists what the engine does not report in this run, and what follows. What it
// reports and is not believed is in refusedAnswers.
func (r *replica) unansweredQuestions() []string {
	var out []string
	for _, subject := range slices.Sorted(maps.Keys(r.run.unanswered)) {
		if r.run.refused[subject] == "" {
			out = append(out, subjectName(subject)+" ("+r.run.unanswered[subject]+"): "+assumed(subject))
		}
	}
	return out
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
