package supervise

import (
	"context"
	"log/slog"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
)

// A line of the kernel's log makes the manager ask NVML about the GPU, at once and then every
// askEvery until the answer is known. A helper whose driver hangs answers so within two seconds.
const (
	askEvery  = 2 * time.Second
	askWithin = 4 * time.Second
)

// askNVML has the GPUs sampled while lines of the kernel's log wait for an answer.
func (s *Supervisor) askNVML() {
	if s.asking || s.o.GPUs == nil {
		return
	}
	s.asking = true
	s.effect(func(ctx context.Context) func() {
		began := time.Now()
		ask, cancel := context.WithTimeout(ctx, askWithin)
		defer cancel()
		sample, err := s.o.GPUs.Fresh(ask)
		return func() { s.asked(sample, err, began) }
	}, func(error) { s.asking = false })
}

// asked takes NVML's answer on the loop, and asks again until it is enough.
func (s *Supervisor) asked(sample *nvml.Snapshot, err error, began time.Time) {
	now := time.Now()
	if err == nil {
		s.healthChanged(s.gpus.Asked(sample, now), now)
	} else {
		s.o.Log.Debug("NVML did not answer a question about the kernel's log", "err", err)
	}
	s.healthChanged(s.gpus.Overdue(now), now)
	s.noteAnswers()
	if !s.gpus.Asks() {
		s.asking = false
		return
	}
	s.effect(func(ctx context.Context) func() {
		sleep(ctx, time.Until(began.Add(askEvery)))
		return func() {
			s.asking = false
			s.askNVML()
		}
	}, func(error) { s.asking = false })
}

// noteAnswers logs and counts what NVML answered about lines of the kernel's log.
func (s *Supervisor) noteAnswers() {
	for _, a := range s.gpus.Answers() {
		s.o.Observer.LogReport(string(a.Answer))
		if a.Kind != "" {
			s.o.Observer.DriverReset(a.Device, a.Kind)
		}
		level, what := answerText(a.Answer, a.Verdict.Class)
		v := a.Verdict
		s.o.Log.Log(s.ctx, level, what, "answer", string(a.Answer), "device", v.Device, "pci", v.PCI, "xid", v.Xid,
			"kind", v.Kind, "report", v.Text, "log_lines", a.Lines)
	}
}

// answerText is how the log reports an answer about a line of that class.
func answerText(a health.Answer, c classify.Class) (slog.Level, string) {
	switch {
	case a == health.Denied:
		return slog.LevelInfo, "NVML finds the GPU healthy that the kernel's log names; the log line is ignored"
	case a == health.Unlisted:
		return slog.LevelInfo, "the kernel's log names a GPU that NVML does not list; the log line is ignored"
	case a == health.Confirmed:
		return slog.LevelWarn, "NVML confirms a fault of the GPU that the kernel's log names"
	case c == classify.ClassReset:
		return slog.LevelWarn, "NVML does not answer; the GPU that the kernel's log names is taken out of use"
	}
	return slog.LevelWarn, "NVML does not answer; the GPU that the kernel's log names is shown as degraded"
}
