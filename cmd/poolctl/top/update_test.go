package top

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview/listviewtest"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// after types keys into a view and returns what is to be done, of all of them.
func after(m *Model, keys string) []any { return listviewtest.After(m, keys) }

// normal is the size of most terminals.
var normal = listview.Size{Width: 80, Height: 24}

// TestEffects: only a y changes a pool, and the keys that end the view end it everywhere.
func TestEffects(t *testing.T) {
	gemma, llama := "gemma", "llama3-8b"
	log := Follow{llama, []string{`pool-engine@llama3\x2d8b.r0.service`, `pool-engine@llama3\x2d8b.r1.service`}}
	for _, c := range []struct {
		name, keys string
		want       []any
	}{
		{"drain", "D y", []any{Do{"drain", gemma}}},
		{"resume", "S y", []any{Do{"resume", gemma}}},
		{"reload", "down L y", []any{Do{"reload", llama}}},
		{"reset", "down X Y", []any{Do{"reset", llama}}},
		{"of_a_replica_it_is_of_its_pool", "down right down D y", []any{Do{"drain", llama}}},
		{"a_group_is_no_pool", "g home D y", nil},
		{"a_no", "D n", nil},
		{"another_key_is_a_no", "D enter", nil},
		{"escape_is_a_no", "D esc", nil},
		{"the_key_again_is_a_no", "D D", nil},
		{"a_y_without_a_question", "y", nil},
		{"one_y_does_one_thing", "D y y", []any{Do{"drain", gemma}}},
		{"from_the_detail_page", "down enter X y", []any{log, Do{"reset", llama}}},
		{"the_detail_page_follows_the_log", "down enter esc", []any{log, Follow{}}},
		{"quit", "q", []any{listview.Quit{}}},
		{"q_leaves_the_detail_page_first", "down enter q q", []any{log, Follow{}, listview.Quit{}}},
		{"q_in_a_filter_is_a_letter", "/ q", nil},
		{"interrupt_in_a_question", "D ctrl-c", []any{listview.Quit{}}},
		{"interrupt_in_a_filter", "/ ctrl-c", []any{listview.Quit{}}},
		{"interrupt_in_the_detail_page", "down enter ctrl-c", []any{log, listview.Quit{}}},
		{"suspend", "ctrl-z", []any{listview.Suspend{}}},
		{"redraw", "? ctrl-l", []any{listview.Redraw{}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, after(view(normal, picture()), c.keys)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestNoActionOnAnOldPicture: what is shown may be wrong, and no one would answer.
func TestNoActionOnAnOldPicture(t *testing.T) {
	m := view(normal, picture(), Trouble{At: now, Text: "gone"})
	if got := after(m, "D"); got != nil || !strings.Contains(drawn(m, false, false), "nothing was done") {
		t.Errorf("%v\n%s", got, drawn(m, false, false))
	}
	if got := after(m, "y"); got != nil {
		t.Errorf("a y was taken for an answer: %v", got)
	}
	m.Update(picture())
	if got := after(m, "D y"); !slices.Equal(got, []any{Do{"drain", "gemma"}}) {
		t.Errorf("when it answers again: %v", got)
	}
}

// rows are those of the table, indented as they are shown.
func rows(m *Model) string {
	var out []string
	for i := range m.Rows {
		r := &m.Rows[i]
		text := strings.Repeat(">", r.depth) + r.label
		if i == m.At {
			text += "*"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

// TestRows: order, groups, folding and the filter, by the keys that change them; the star is the
// selected row.
func TestRows(t *testing.T) {
	for _, c := range []struct{ name, keys, want string }{
		{"by_name", "", "gemma* llama3-8b phi qwen typo"},
		{"reverse", "r", "typo qwen phi llama3-8b gemma*"},
		{"by_state_the_worst_first", ">", "typo phi gemma* llama3-8b qwen"},
		{"by_slots", "> >", "llama3-8b gemma* phi qwen typo"},
		{"by_restarts_from_the_other_end", "<", "llama3-8b gemma* phi qwen typo"},
		{"what_is_not_known_comes_last", "> > > > > >", "llama3-8b qwen gemma* phi typo"},
		{"unfolded", "down right", "gemma llama3-8b* >r0 >r1 phi qwen typo"},
		{"folded_from_a_replica", "down right down left", "gemma llama3-8b* phi qwen typo"},
		{"all", "a", "gemma* >r0 llama3-8b >r0 >r1 phi >r0 qwen >r0 typo"},
		{"all_and_none", "a a", "gemma* llama3-8b phi qwen typo"},
		{"groups", "g", "failed >phi invalid >typo ready >gemma* >llama3-8b >qwen"},
		{"a_folded_group", "g left", "failed >phi invalid >typo ready*"},
		{"and_open_again", "g left right", "failed >phi invalid >typo ready* >gemma >llama3-8b >qwen"},
		{"enter_folds_a_group", "g home enter", "failed* invalid >typo ready >gemma >llama3-8b >qwen"},
		{"a_replica_in_a_group", "g g end up up right down", "(none) >typo llamacpp >gemma >llama3-8b >phi >>r0* vllm >qwen"},
		{"a_filter", "/ p h i", "phi*"},
		{"a_filter_of_an_error", "/ m o d e l _ n", "phi*"},
		{"a_filter_in_capitals", "/ P H I", "phi*"},
		{"a_letter_less", "/ p h i x backspace", "phi*"},
		{"no_filter", "/ p h esc", "gemma llama3-8b phi* qwen typo"},
		{"kept_and_given_up", "/ p h enter esc", "gemma llama3-8b phi* qwen typo"},
		{"nothing_matches", "/ z z", ""},
		{"below_the_last", "end down", "gemma llama3-8b phi qwen typo*"},
		{"above_the_first", "up", "gemma* llama3-8b phi qwen typo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := view(normal, picture())
			after(m, c.keys)
			if got := rows(m); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestSelectionStays: a new picture selects the same pool, wherever it is now; of one that is gone,
// its place.
func TestSelectionStays(t *testing.T) {
	m := view(normal, picture(), "down down")
	m.Update(picture(many(3)...)) // pool-… come after phi
	if got := m.Selected().key; got != "phi" {
		t.Errorf("%s is selected, want phi", got)
	}
	p := picture()
	p.Pools.Pools = slices.DeleteFunc(p.Pools.Pools, func(p wire.Pool) bool { return p.ID == "phi" })
	m.Update(p)
	if got := m.Selected().key; got != "qwen" {
		t.Errorf("%s is selected, want qwen in the place of phi", got)
	}
	m.Update(Picture{At: now})
	if m.Selected() != nil {
		t.Error("a row is selected where there is none")
	}
	after(m, "D enter right left a end home pgdn pgup g < >") // none of it may find a row
}

// TestScrolling: the selected row is on the screen, whatever the size and the number of rows.
func TestScrolling(t *testing.T) {
	m := view(normal, picture(many(100)...))
	seen := func(when string) {
		t.Helper()
		if _, visible := m.parts(); m.At < m.First || m.At >= m.First+visible {
			t.Errorf("%s: row %d is selected, %d to %d are shown", when, m.At, m.First, m.First+visible-1)
		}
	}
	for _, keys := range []string{"end", "pgup", "up up up", "home", "pgdn", "G", "/ 9 9 enter", "esc", "end"} {
		after(m, keys)
		seen(keys)
	}
	for _, s := range []listview.Size{{Width: 80, Height: 13}, {Width: 200, Height: 50}, {Width: 60, Height: 12},
		{Width: 10, Height: 3}, normal} {
		m.Update(s)
		seen(fmt.Sprint(s))
	}
}

// TestBounds: what is kept of events and of a log does not grow, and a log of another pool is not
// shown.
func TestBounds(t *testing.T) {
	m := view(normal, picture(), "down enter")
	for i := range 3 * mostEvents {
		m.Update(Events{{Seq: uint64(i), Kind: "lease", PoolID: "gemma"}})
		m.Update(Log{Pool: "llama3-8b", Lines: []string{fmt.Sprint(i)}})
	}
	m.Update(Log{Pool: "gemma", Lines: []string{"of another pool"}})
	if len(m.events) != mostEvents || m.events[mostEvents-1].event.Seq != 3*mostEvents-1 {
		t.Errorf("%d events, want the newest %d", len(m.events), mostEvents)
	}
	if len(m.log) != mostLogLines || m.log[mostLogLines-1] != fmt.Sprint(3*mostEvents-1) {
		t.Errorf("%d lines, the last is %q", len(m.log), m.log[len(m.log)-1])
	}
}

// TestTrouble: the time without an answer counts from the first failure, and an answer ends it.
func TestTrouble(t *testing.T) {
	m := view(listview.Size{Width: 120, Height: 24}, picture(), Trouble{At: now.Add(time.Second), Text: "gone"})
	m.Update(Trouble{At: now.Add(31 * time.Second), Text: "still gone"})
	if got := drawn(m, false, false); !strings.Contains(got, "no answer for 30s: still gone") {
		t.Errorf("%s", got)
	}
	m.Update(picture())
	if got := drawn(m, false, false); strings.Contains(got, "OLD") {
		t.Errorf("an answer came:\n%s", got)
	}
}

// TestDone: what became of an action is shown until the next key.
func TestDone(t *testing.T) {
	m := view(normal, picture())
	m.Update(Done{Do: Do{"drain", "gemma"}, Err: "FORBIDDEN: this caller may only read"})
	if got := drawn(m, false, false); !strings.Contains(got, "drain of gemma: FORBIDDEN") {
		t.Errorf("%s", got)
	}
	after(m, "down")
	if got := drawn(m, false, false); strings.Contains(got, "FORBIDDEN") {
		t.Errorf("a key was pressed:\n%s", got)
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{size(nil), "-"}, {size(new(uint64(0))), "0B"}, {size(new(uint64(1023))), "1.0K"}, {size(new(uint64(5 << 29))), "2.5G"},
		{size(new(uint64(80 << 30))), "80G"}, {size(new(uint64(1 << 63))), "8192P"}, {short(nil), "-"}, {short(new(3.14)), "3.1"},
		{short(new(1234.5)), "1234"}, {short(new(123456.0)), "123k"}, {percent(new(0.034)), "3%"}, {millis(new(183.4)), "183ms"},
		{millis(new(12345.0)), "12s"}, {count(nil), "-"}, {(&figures{}).slots(), "-"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// BenchmarkSecond is what the view itself does in a second on a host with 250 pools, 200 columns
// and 50 lines: a new picture, the order, the screen and what of it is sent.
func BenchmarkSecond(b *testing.B) {
	m := view(listview.Size{Width: 200, Height: 50}, picture(many(250)...), events())
	one, two := picture(many(250)...), picture(many(251)...)
	p := term.Painter{Colour: true, UTF8: true}
	for i := 0; b.Loop(); i++ {
		if m.Update(one); i%2 == 0 {
			m.Update(two)
		}
		p.Paint(m.View(), 200, 50)
	}
}
