package systemd

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JournalEntry is one entry of the journal.
type JournalEntry struct {
	Cursor string    // for JournalQuery.After
	At     time.Time // CLOCK_REALTIME when the journal received it
	// Fields are the requested fields that the entry has. Of a field with several values it has the
	// first.
	Fields map[string]string
}

// Message is the field MESSAGE.
func (e JournalEntry) Message() string { return e.Fields["MESSAGE"] }

// The bounds of one line of journalctl's output, in bytes. journald cuts what a service writes at
// 48 KiB (LineMax= of journald.conf(5)). A byte of text that is not UTF-8 takes up to 4 ("255,"),
// and an escaped one up to 6: longer lines are entries with much else in them, and are skipped. The
// buffer is as long as what is common.
const (
	maxJournalLine    = 320 << 10
	commonJournalLine = 64 << 10
)

// scanJournal reads lines of journalctl --output=json until the end, and skips those that are too
// long or not an entry.
func scanJournal(r io.Reader, deliver func(JournalEntry)) error {
	lines := bufio.NewReaderSize(r, commonJournalLine)
	var long []byte // what there is of a line that is longer than the buffer
	for {
		line, err := lines.ReadSlice('\n')
		if len(long) > 0 || errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line[:min(len(line), maxJournalLine+1-len(long))]...)
			line = long
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil: // a last line without an end was cut off
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if len(line) <= maxJournalLine {
			if e, ok := parseJournalEntry(line); ok {
				deliver(e)
			}
		}
		long = nil
	}
}

// parseJournalEntry reads one entry in the form of systemd's journal export in JSON
// (systemd.io/JOURNAL_EXPORT_FORMATS). Nothing of the line is kept.
func parseJournalEntry(line []byte) (JournalEntry, bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(line, &raw) != nil {
		return JournalEntry{}, false
	}
	e := JournalEntry{Fields: make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		text, ok := fieldText(raw[name])
		switch {
		case !ok:
		case name == "__CURSOR":
			e.Cursor = text
		case name == "__REALTIME_TIMESTAMP":
			if usec, err := strconv.ParseInt(text, 10, 64); err == nil {
				e.At = time.UnixMicro(usec)
			}
		case strings.HasPrefix(name, "__"), name == "_BOOT_ID": // always printed
		default:
			e.Fields[name] = text
		}
	}
	return e, e.Cursor != ""
}

// fieldText reads a field: a string, an array of bytes for text that is not printable UTF-8
// (colours, for example), an array of either for a field with several values, or null for one that
// is too large.
func fieldText(raw json.RawMessage) (string, bool) {
	var text *string
	if json.Unmarshal(raw, &text) == nil {
		if text == nil {
			return "", false
		}
		return *text, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return "", false
	}
	out := make([]byte, 0, len(list))
	for _, element := range list {
		n, err := strconv.ParseUint(string(element), 10, 8)
		if err != nil {
			return firstText(list)
		}
		out = append(out, byte(n))
	}
	return strings.ToValidUTF8(string(out), "\uFFFD"), true
}

// firstText is the first of several values that is not null.
func firstText(list []json.RawMessage) (string, bool) {
	for _, element := range list {
		var values []json.RawMessage
		if json.Unmarshal(element, &values) == nil && slices.ContainsFunc(values, func(v json.RawMessage) bool {
			return len(v) > 0 && v[0] == '['
		}) {
			return "", false // no deeper nesting: input must not decide the depth of recursion
		}
		if text, ok := fieldText(element); ok {
			return text, true
		}
	}
	return "", false
}
