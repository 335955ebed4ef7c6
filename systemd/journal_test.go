package systemd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestLogHandlerJSON(t *testing.T) {
	cases := map[string]struct {
		log  func(*slog.Logger)
		want string
	}{
		"message_is_human": {
			func(l *slog.Logger) { l.Info("pool is ready", "pool_id", "llama3", "restart_count", 2) },
			`{"time":T,"level":"info","human":"pool is ready","pool_id":"llama3","restart_count":2}`,
		},
		"human_takes_the_place_of_the_message": {
			func(l *slog.Logger) { l.Warn("unit.failed", "human", "the engine crashed") },
			`{"time":T,"level":"warn","human":"the engine crashed","msg":"unit.failed"}`,
		},
		"groups_are_joined": {
			func(l *slog.Logger) { l.WithGroup("unit").Error("x", slog.Group("job", "id", 7)) },
			`{"time":T,"level":"error","human":"x","unit_job_id":7}`,
		},
		"attrs_of_the_logger_come_first": {
			func(l *slog.Logger) { l.With("a", 1).With("b", 2).Info("x", "c", 3) },
			`{"time":T,"level":"info","human":"x","a":1,"b":2,"c":3}`,
		},
		"the_last_of_a_name_counts": {
			func(l *slog.Logger) { l.With("a", 1, "b", 2).Info("x", "b", 3, "a", 4, "a", 5) },
			`{"time":T,"level":"info","human":"x","b":3,"a":5}`,
		},
		"values": {
			func(l *slog.Logger) {
				l.Info("x", "took", 1500*time.Millisecond, "error", errors.New("two\nlines"), "msg", "kept")
			},
			`{"time":T,"level":"info","human":"x","took":"1.5s","error":"two\nlines","msg":"kept"}`,
		},
		"below_the_level": {func(l *slog.Logger) { l.Debug("x") }, ""},
	}
	when := regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Setenv("JOURNAL_STREAM", "")
			var out bytes.Buffer
			c.log(slog.New(NewLogHandler(LogOptions{Stderr: &out})))
			got := when.ReplaceAllString(strings.TrimSuffix(out.String(), "\n"), `"time":T`)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLogHandlerJournal(t *testing.T) {
	type entry struct {
		Message  string
		Priority journal.Priority
		Fields   map[string]string
	}
	var got []entry
	h := &logHandler{level: slog.LevelDebug, identifier: "pool-managerd", lines: slog.DiscardHandler,
		form: new(LogForm), connected: true,
		journal: func(m string, p journal.Priority, f map[string]string) error {
			got = append(got, entry{m, p, f})
			return nil
		}}
	log := slog.New(h).With("pool_id", "llama3")
	log.Info("ready", "device_mask", []string{"GPU-1", "GPU-2"}, "_odd.key", "v", "9lives", 9, "message", "m")
	log.Log(context.Background(), slog.LevelInfo+2, "notice", "error", errors.New("e"))
	log.Warn("w", "at", time.Unix(0, 5).UTC())
	log.Error("e", "human", "It broke.")
	log.Debug("d")

	base := func(human string, more ...string) map[string]string {
		m := map[string]string{"HUMAN": human, "SYSLOG_IDENTIFIER": "pool-managerd", "POOL_ID": "llama3"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	want := []entry{
		{"ready", journal.PriInfo, base("ready", "DEVICE_MASK", "GPU-1 GPU-2",
			"FIELD_ODD_KEY", "v", "FIELD_9LIVES", "9", "FIELD_MESSAGE", "m")},
		{"notice", journal.PriNotice, base("notice", "ERROR", "e")},
		{"w", journal.PriWarning, base("w", "AT", "1970-01-01T00:00:00.000000005Z")},
		{"It broke.", journal.PriErr, base("It broke.", "MSG", "e")},
		{"d", journal.PriDebug, base("d")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLogHandlerFallsBackToStderr(t *testing.T) {
	var out bytes.Buffer
	h := &logHandler{level: slog.LevelInfo, lines: jsonLines(&out), form: new(LogForm), connected: true,
		journal: func(string, journal.Priority, map[string]string) error { return errors.New("no journal") }}
	slog.New(h).Info("kept")
	if !strings.Contains(out.String(), `"human":"kept"`) {
		t.Errorf("an entry that the journal refused is lost: %q", out.String())
	}
}

// TestLogForm: what config.toml chooses wins over what standard error is, from the next entry on.
func TestLogForm(t *testing.T) {
	for _, c := range []struct {
		name      string
		form      int32
		connected bool
		native    bool
	}{
		{"auto/in_the_journal", LogAuto, true, true},
		{"auto/on_a_terminal", LogAuto, false, false},
		{"lines/in_the_journal", LogLines, true, false},
		{"journal/on_a_terminal", LogJournal, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			native, form := 0, new(LogForm)
			h := &logHandler{level: slog.LevelInfo, lines: jsonLines(&out), form: form, connected: c.connected,
				journal: func(string, journal.Priority, map[string]string) error { native++; return nil }}
			log := slog.New(h).With("pool_id", "a")
			form.Set(c.form)
			log.Info("ready")
			if (native == 1) != c.native || (out.Len() == 0) != c.native {
				t.Errorf("%d entries to the journal, and lines %q", native, out.String())
			}
		})
	}
}

func FuzzFieldName(f *testing.F) {
	for _, s := range []string{"pool_id", "", "_x", "9", "é", "message", strings.Repeat("a", 80)} {
		f.Add(s)
	}
	valid := regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	f.Fuzz(mutate.Many(func(t *testing.T, key string) {
		if name := fieldName(key); !valid.MatchString(name) {
			t.Errorf("fieldName(%q) = %q, which the journal would drop", key, name)
		}
	}))
}
