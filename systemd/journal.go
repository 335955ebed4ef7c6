package systemd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// LogOptions of NewLogHandler.
type LogOptions struct {
	Identifier string       // SYSLOG_IDENTIFIER in the journal: the program's name
	Level      slog.Leveler // nil: info
	Stderr     io.Writer    // for JSON lines; nil: os.Stderr
	Form       *LogForm     // nil: LogAuto
}

// LogForm is how entries are written. It may be changed while a handler writes.
type LogForm struct{ chosen atomic.Int32 }

// Forms of entries. The journal has its native fields also where standard error is something else.
const (
	LogAuto int32 = iota
	LogLines
	LogJournal
)

// Set chooses one of the forms.
func (f *LogForm) Set(form int32) { f.chosen.Store(form) }

// NewLogHandler writes native journal fields when standard error is connected to the journal
// (JOURNAL_STREAM names its device and inode, systemd.exec(5)), else one JSON object a line on
// standard error, unless one of the two was chosen.
//
// Attribute keys stay as they are given in JSON and are in upper case in the journal (pool_id,
// POOL_ID); keys of groups are joined by "_". The message is the field "human", and MESSAGE in the
// journal; an attribute "human" replaces it, and the message is then "msg". An entry that the
// journal refuses goes to standard error, so none is lost.
func NewLogHandler(o LogOptions) slog.Handler {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Form == nil {
		o.Form = new(LogForm)
	}
	// A malformed JOURNAL_STREAM is not fatal: standard error always works.
	ours, err := journal.StderrIsJournalStream()
	return &logHandler{level: o.Level, lines: jsonLines(o.Stderr), identifier: o.Identifier, journal: journal.Send,
		form: o.Form, connected: err == nil && ours}
}

// logHandler flattens attributes, so that both forms of a line have the same names.
type logHandler struct {
	level      slog.Leveler
	lines      slog.Handler
	identifier string
	journal    func(message string, priority journal.Priority, fields map[string]string) error
	form       *LogForm
	connected  bool // standard error is the journal

	prefix string
	attrs  []slog.Attr // flat
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clone := *h
	clone.attrs = slices.Clone(h.attrs)
	for _, a := range attrs {
		clone.attrs = flatten(clone.attrs, h.prefix, a)
	}
	return &clone
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	clone := *h
	if name != "" {
		clone.prefix += name + "_"
	}
	return &clone
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	attrs := slices.Clone(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		attrs = flatten(attrs, h.prefix, a)
		return true
	})
	attrs = lastOfEach(attrs)
	if i := slices.IndexFunc(attrs, func(a slog.Attr) bool { return a.Key == "human" }); i >= 0 {
		human := attrs[i].Value.String()
		attrs[i] = slog.String(slog.MessageKey, r.Message)
		r.Message = human
	}
	if h.native() && h.journal(r.Message, priority(r.Level), h.fields(r.Message, attrs)) == nil {
		return nil
	}
	line := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	for _, a := range attrs {
		if a.Key == slog.MessageKey {
			a.Value = slog.AnyValue(plainText(fieldValue(a.Value)))
		}
		line.AddAttrs(a)
	}
	return h.lines.Handle(ctx, line)
}

// lastOfEach leaves out attributes of which a later one has the name: what a caller adds to the
// attributes that each of its lines has is the newer value, and an object with a field twice is
// read in different ways.
func lastOfEach(attrs []slog.Attr) []slog.Attr {
	kept := attrs[:0]
	for i, a := range attrs {
		if !slices.ContainsFunc(attrs[i+1:], func(later slog.Attr) bool { return later.Key == a.Key }) {
			kept = append(kept, a)
		}
	}
	return kept
}

// native reports whether entries go to the journal's own socket.
func (h *logHandler) native() bool {
	switch h.form.chosen.Load() {
	case LogLines:
		return false
	case LogJournal:
		return true
	}
	return h.connected
}

// flatten appends an attribute, or the members of a group, with full keys.
func flatten(to []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "_"
		}
		for _, member := range value.Group() {
			to = flatten(to, prefix, member)
		}
		return to
	}
	if a.Key == "" {
		return to
	}
	if value.Kind() == slog.KindDuration {
		value = slog.StringValue(value.Duration().String())
	}
	return append(to, slog.Attr{Key: prefix + a.Key, Value: value})
}

// plainText is the value of an attribute "msg", which jsonLines must distinguish from slog's own
// message.
type plainText string

func jsonLines(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: slog.LevelDebug - 8, // logHandler has decided already
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch {
			case a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString:
				a.Key = "human"
			case a.Key == slog.LevelKey:
				if level, ok := a.Value.Any().(slog.Level); ok {
					return slog.String(a.Key, strings.ToLower(level.String()))
				}
			case a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime:
				return slog.String(a.Key, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
			}
			return a
		},
	})
}

// fields are the journal's fields of an entry, beside MESSAGE and PRIORITY.
func (h *logHandler) fields(human string, attrs []slog.Attr) map[string]string {
	out := make(map[string]string, len(attrs)+2)
	out["HUMAN"] = human
	if h.identifier != "" {
		out["SYSLOG_IDENTIFIER"] = h.identifier
	}
	for _, a := range attrs {
		out[fieldName(a.Key)] = fieldValue(a.Value)
	}
	return out
}

func fieldValue(v slog.Value) string {
	if v.Kind() == slog.KindTime {
		return v.Time().UTC().Format(time.RFC3339Nano)
	}
	if v.Kind() == slog.KindAny {
		if list, ok := v.Any().([]string); ok {
			return strings.Join(list, " ")
		}
		return fmt.Sprint(v.Any())
	}
	return v.String()
}

// fieldName makes a valid name of a field: upper-case letters, digits and "_", at most 64, the
// first one a letter (systemd.journal-fields(7)). Names that the journal reserves get a prefix.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	reserved := name == "MESSAGE" || name == "PRIORITY" || name == "SYSLOG_IDENTIFIER" || name == "HUMAN"
	if name == "" || name[0] < 'A' || reserved || name[0] == '_' {
		name = "FIELD_" + strings.TrimLeft(name, "_")
	}
	return name[:min(len(name), 64)]
}

// priority maps levels to syslog's; a level between info and warn is a notice.
func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level > slog.LevelInfo:
		return journal.PriNotice
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
