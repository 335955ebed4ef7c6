package engine_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// believed checks what one adapter makes of one answer: a value within its bounds, or an error that
// can be shown.
func believed(t *testing.T, a engine.Adapter, body []byte) {
	t.Helper()
	for name, c := range map[string]struct {
		read        func([]byte) (int, error)
		least, most int
	}{
		"slots": {a.Slots, 1, bounds.Slots}, "busy": {a.Busy, 0, bounds.Requests}, "queue": {a.Queue, 0, bounds.Requests},
	} {
		n, err := c.read(body)
		if err == nil && (n < c.least || n > c.most) || err != nil && n != 0 {
			t.Errorf("%s %s(%.200q) = %d, %v", a.Kind(), name, body, n, err)
		}
		showable(t, err)
	}
	mark, err := a.Progress(body)
	if len(mark) > bounds.Mark || (mark == "") != (err != nil) || strings.Contains(mark, "Inf") ||
		strings.Contains(mark, "-") {
		t.Errorf("%s progress %q, %v out of %.200q", a.Kind(), mark, err, body)
	}
	showable(t, err)
	showable(t, a.Generated(body))
	if v := a.ParseVersion(body); len(v) > bounds.Version || strings.ContainsFunc(v, func(r rune) bool {
		return r <= ' ' || r > '~'
	}) {
		t.Errorf("%s version %q", a.Kind(), v)
	}
}

// showable checks that an error about an answer can go into a log and into the API.
func showable(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	var refused *bounds.Refused
	if len(text) > 3*bounds.Excerpt || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool {
		return r < ' ' || r == 0x7f
	}) || errors.As(err, &refused) && refused.Subject == "" {
		t.Errorf("error %.600q", text)
	}
}

// FuzzLies puts a lie in the place of one number, or of one field, of an answer that was recorded
// of each engine.
func FuzzLies(f *testing.F) {
	var recorded [][]byte
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.*"))
	if err != nil || len(files) < 10 {
		f.Fatal(files, err)
	}
	for i, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		recorded = append(recorded, body)
		for _, lie := range []string{"9223372036854775807", "18446744073709551616", "-1", "1e308", "-0", "NaN", "+Inf", "0x7f",
			`"4"`, "null", "[]", "{}", "65537", "1048577", strings.Repeat("9", 400), "\x00", "1 2", "4}", "4,\"total_slots\":-2"} {
			f.Add(uint8(i), uint8(len(lie)), lie)
		}
	}
	f.Fuzz(mutate.Many(func(t *testing.T, which, at uint8, lie string) {
		body := recorded[int(which)%len(recorded)]
		places := number.FindAllIndex(body, -1)
		if len(places) > 0 {
			p := places[int(at)%len(places)]
			body = bytes.Join([][]byte{body[:p[0]], []byte(lie), body[p[1]:]}, nil)
		}
		for _, kind := range engine.Kinds() {
			a, _ := engine.For(kind)
			believed(t, a, body)
			believed(t, a, number.ReplaceAllLiteral(recorded[int(which)%len(recorded)], []byte(lie)))
		}
	}))
}

// TestWhatIsNotReportedIsNoLie: an engine without a value is asked for it in vain, and is not
// suspected.
func TestWhatIsNotReportedIsNoLie(t *testing.T) {
	for _, kind := range engine.Kinds() {
		a, _ := engine.For(kind)
		for _, body := range []string{"{}", "# HELP x y\n", "other 1\n"} {
			var refused *bounds.Refused
			if _, err := a.Slots([]byte("{}")); errors.As(err, &refused) {
				t.Errorf("%s slots: %v", kind, err)
			}
			if _, err := a.Queue([]byte(body)); err == nil || errors.As(err, &refused) {
				t.Errorf("%s queue(%q): %v", kind, body, err)
			}
		}
	}
}
