package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// trust counts what was not believed: text that users may have written, and answers of engines.
type trust struct {
	logReports *prometheus.CounterVec
	answers    *reasonCounter
}

func newTrust(logAnswers []string) trust {
	t := trust{
		logReports: counter("gpu_log_reports_total",
			"Faults of a GPU that the kernel's log reported, by the answer of NVML.", "answer"),
		answers: byReason("engine_answers_refused_total",
			"Answers of an engine that were refused for an impossible value or form, once in a run for each subject.",
			"subject", nil),
	}
	for _, a := range logAnswers {
		t.logReports.WithLabelValues(a)
	}
	return t
}

// LogReport counts a fault that the kernel's log reported, by one of Options.LogAnswers.
func (m *Metrics) LogReport(answer string) { m.trust.logReports.WithLabelValues(answer).Inc() }

// AnswerRefused counts an answer of an engine that was not believed. subject is one of the closed
// list of package engine.
func (m *Metrics) AnswerRefused(p registry.Pool, subject string) {
	m.trust.answers.add(m.perPool.pool(p.ID), subject, 1)
}
