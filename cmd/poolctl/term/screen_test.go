package term

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestPaint(t *testing.T) {
	for _, c := range []struct {
		name    string
		painter Painter
		lines   []Line
		want    string
	}{
		{"the_first_screen_erases", Painter{}, []Line{{{Text: "ab"}}}, "\x1b[0m\x1b[2J\x1b[1;1Hab   "},
		{"bold_and_reverse_without_colours", Painter{}, []Line{{{Text: "ab", Style: Bold | Reverse | Red}}},
			"\x1b[0m\x1b[2J\x1b[1;1H\x1b[1;7mab\x1b[0m   "},
		{"a_colour", Painter{Colour: true}, []Line{{{Text: "ab", Style: Red}}},
			"\x1b[0m\x1b[2J\x1b[1;1H\x1b[31mab\x1b[0m   "},
		{"a_colour_without_colours", Painter{}, []Line{{{Text: "ab", Style: Red}}}, "\x1b[0m\x1b[2J\x1b[1;1Hab   "},
		{"too_long", Painter{}, []Line{{{Text: "abc"}, {Text: "defg"}}}, "\x1b[0m\x1b[2J\x1b[1;1Habcd~"},
		{"nothing_fits_after_it", Painter{}, []Line{{{Text: "abcde"}, {Text: "f", Style: Bold}}},
			"\x1b[0m\x1b[2J\x1b[1;1Habcde"},
		{"hostile", Painter{UTF8: true}, []Line{{{Text: "\x1b[2J\a\u202e"}}}, "\x1b[0m\x1b[2J\x1b[1;1H?[2J~"},
		{"not_ascii", Painter{}, []Line{{{Text: "é字"}}}, "\x1b[0m\x1b[2J\x1b[1;1H??   "},
		{"wide_characters", Painter{UTF8: true}, []Line{{{Text: "字字"}}}, "\x1b[0m\x1b[2J\x1b[1;1H字字 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(c.painter.Paint(c.lines, 5, 2)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestPaintSendsWhatDiffers: the same screen again sends nothing, another one the lines that
// differ, and a new size or a screen that was lost all of it.
func TestPaintSendsWhatDiffers(t *testing.T) {
	var p Painter
	screen := []Line{{{Text: "ab"}}, {{Text: "cd"}}}
	p.Paint(screen, 5, 2)
	if got := p.Paint(screen, 5, 2); len(got) > 0 {
		t.Errorf("the same screen: %q", got)
	}
	if got := string(p.Paint([]Line{{{Text: "ab"}}, {{Text: "ce"}}}, 5, 2)); got != "\x1b[2;1Hce   " {
		t.Errorf("one line differs: %q", got)
	}
	if got := string(p.Paint([]Line{{{Text: "ab"}}}, 5, 2)); got != "\x1b[2;1H     " {
		t.Errorf("a line is gone: %q", got)
	}
	if got := string(p.Paint(screen, 6, 2)); !strings.HasPrefix(got, "\x1b[0m\x1b[2J") {
		t.Errorf("a new size: %q", got)
	}
	p.Forget()
	if got := string(p.Paint(screen, 6, 2)); !strings.HasPrefix(got, "\x1b[0m\x1b[2J") {
		t.Errorf("a lost screen: %q", got)
	}
}

// FuzzPaint: whatever text is shown, a line has the width of the terminal, and only the sequences
// of this package are sent.
func FuzzPaint(f *testing.F) {
	for _, s := range []string{"", "plain", "\x1b[31m", "\u009b1A", "字字字", "e\u0301", "\xff", "a\u200bb"} {
		f.Add(s, 7)
	}
	ours := regexp.MustCompile("^(\x1b\\[[0-9;]*[mHJ]|[^\x00-\x1f\x7f-\u009f])*$")
	sequence := regexp.MustCompile("\x1b\\[[0-9;]*[mHJ]")
	f.Fuzz(mutate.Many(func(t *testing.T, s string, width int) {
		if width < 1 || width > 300 {
			return
		}
		p := Painter{Colour: true, UTF8: true}
		got := string(p.Paint([]Line{{{Text: s, Style: Red}, {Text: s}}}, width, 1))
		if !ours.MatchString(got) {
			t.Errorf("%q is sent for %q", got, s)
		}
		if text := sequence.ReplaceAllString(got, ""); text != "" && Width(text) != width {
			t.Errorf("%q has %d columns, want %d", text, Width(text), width)
		}
	}))
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       string
	}{
		{"nothing", " ", ""}, {"one_word", "abc", "abc"}, {"between_words", "abc de fg", "abc|de fg"},
		{"a_long_word", "a bcdefghi j", "a|bcdef|ghi j"}, {"it_fits", "abc d", "abc d"},
		{"wide", "字字字", "字字|字"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(Wrap(c.text, 5), "|"); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestAlign(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Left("ab", 4), "ab  "}, {Right("ab", 4), "  ab"}, {Left("abcde", 4), "abc~"}, {Right("字字字", 4), " 字~"},
		{Left("ab", 0), ""}, {Left("字", 3), "字 "}, {Cut("e\u0301e", 2), "e\u0301e"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
