// Package listview is what the live views of poolctl share: a list whose rows are selected, sorted,
// put together, filtered and folded by keys, and the screen around it as lines of text.
//
// As the views themselves, it does no I/O, has no clock and starts nothing. What the rows are, how
// they become rows and what else is on the screen is theirs.
package listview

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
)

// Size is that of the terminal. It happens to a view at its begin and with each change.
type Size struct{ Width, Height int }

// What a key has the caller do.
type (
	// Quit ends the view.
	Quit struct{}
	// Suspend stops the program until the shell continues it.
	Suspend struct{}
	// Redraw sends the whole screen again.
	Redraw struct{}
)

// Page is what fills the screen.
type Page int

// The pages.
const (
	PageList Page = iota
	PageDetail
	PageHelp
)

// Column is one of a list.
type Column[R any] struct {
	Name  string // for people
	Title string
	Width int
	Left  bool // text; numbers are aligned on the right
	Falls bool // the greatest is first
	Cell  func(r *R) string
	Order func(a, b *R) int // of rows that are no groups
}

// Text is a column of words.
func Text[R any](name, title string, width int, cell func(*R) string, order func(a, b *R) int) Column[R] {
	return Column[R]{Name: name, Title: title, Width: width, Left: true, Cell: cell, Order: order}
}

// Number is a column of numbers, the greatest first.
func Number[R any](name, title string, width int, cell func(*R) string, order func(a, b *R) int) Column[R] {
	return Column[R]{Name: name, Title: title, Width: width, Falls: true, Cell: cell, Order: order}
}

// List is the state of a list. Its Columns, Groups and Key are set once.
type List[R any] struct {
	Columns []Column[R]       // all, from the left
	Groups  []string          // what rows can be put together by; the first is none
	Key     func(r *R) string // names a row over all pictures

	Size
	Page   Page
	Scroll int // of the details

	Rows   []R
	Group  int // of Groups
	Filter string
	Typing bool            // the filter is being typed
	Folded map[string]bool // groups, by the key of their row

	Cursor string // the key of the selected row
	At     int    // its place, for when it is gone
	First  int    // the first row that is shown

	sort    int // of Columns
	reverse bool
}

// Selected is the row under the cursor, nil where there is none.
func (l *List[R]) Selected() *R {
	if l.At >= len(l.Rows) {
		return nil
	}
	return &l.Rows[l.At]
}

// Move selects the row that is n below the selected one, or the nearest, and shows it where there
// is room for so many.
func (l *List[R]) Move(n, room int) {
	if l.At = max(0, min(l.At+n, len(l.Rows)-1)); len(l.Rows) > 0 {
		l.Cursor = l.Key(&l.Rows[l.At])
	}
	l.First = max(0, min(l.First, l.At, len(l.Rows)-room))
	l.First = max(l.First, l.At-room+1)
}

// Keep keeps the selected row selected after the rows were made again.
func (l *List[R]) Keep(room int) {
	at := slices.IndexFunc(l.Rows, func(r R) bool { return l.Key(&r) == l.Cursor })
	if at >= 0 {
		l.At = at
	}
	l.Move(0, room)
}

// Compare has rows in the order that was chosen; of those that are equal in it, others decide.
func (l *List[R]) Compare(a, b *R) int {
	by := l.Columns[l.sort].Order(a, b)
	if l.reverse {
		by = -by
	}
	return by
}

// Sorted is the name of the column of the order.
func (l *List[R]) Sorted() string { return l.Columns[l.sort].Name }

// Grouped are rows by the name of their group, and the names in their order.
func Grouped[R any](rows []R, of func(r *R) string) (names []string, byName map[string][]R) {
	byName = make(map[string][]R)
	for i := range rows {
		name := of(&rows[i])
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = append(byName[name], rows[i])
	}
	slices.Sort(names)
	return names, byName
}

// Label is the name of a group as it is shown.
func Label(name string) string { return cmp.Or(name, "(none)") }

// Matches reports whether the typed text is in one of the words that people know a row by.
func (l *List[R]) Matches(words ...string) bool {
	text := strings.ToLower(l.Filter)
	return slices.ContainsFunc(words, func(word string) bool {
		return strings.Contains(strings.ToLower(word), text)
	})
}

// Global is what a key does on every page: Quit, Suspend or Redraw; nil: nothing.
func Global(k term.Key) any {
	switch k {
	case term.Interrupt:
		return Quit{}
	case term.Suspend:
		return Suspend{}
	case term.Refresh:
		return Redraw{}
	}
	return nil
}

// Type takes a key of the filter.
func (l *List[R]) Type(k term.Key) {
	switch {
	case k == term.Enter:
		l.Typing = false
	case k == term.Escape:
		l.Typing, l.Filter = false, ""
	case k == term.Backspace:
		_, n := utf8.DecodeLastRuneInString(l.Filter)
		l.Filter = l.Filter[:len(l.Filter)-n]
	case utf8.RuneCountInString(string(k)) == 1 && len(l.Filter) < 64:
		l.Filter += string(k)
	}
}

// Moves reports whether a key moves the selection, and does so.
func (l *List[R]) Moves(k term.Key, room int) bool {
	switch k {
	case term.Up, "k":
		l.Move(-1, room)
	case term.Down, "j":
		l.Move(1, room)
	case term.PageUp:
		l.Move(-room, room)
	case term.PageDown, " ":
		l.Move(room, room)
	case term.Home:
		l.Move(-len(l.Rows), room)
	case term.End, "G":
		l.Move(len(l.Rows), room)
	default:
		return false
	}
	return true
}

// Orders reports whether a key changes the order or the groups, and does so: the rows are to be
// made again.
func (l *List[R]) Orders(k term.Key) bool {
	n := len(l.Columns)
	switch k {
	case "<", ",":
		l.sort = (l.sort + n - 1) % n
	case ">", ".":
		l.sort = (l.sort + 1) % n
	case "r":
		l.reverse = !l.reverse
		return true
	case "g":
		l.Group = (l.Group + 1) % len(l.Groups)
		return true
	default:
		return false
	}
	l.reverse = l.Columns[l.sort].Falls
	return true
}

// Leaves reports whether a key leaves the page of details.
func Leaves(k term.Key) bool {
	return slices.Contains([]term.Key{term.Escape, "q", term.LeftKey, term.Enter, term.Backspace}, k)
}

// Scrolls moves the page of details, where a key does that.
func (l *List[R]) Scrolls(k term.Key) {
	switch k {
	case term.Down, "j":
		l.Scroll++
	case term.Up, "k":
		l.Scroll = max(0, l.Scroll-1)
	case term.PageDown, " ":
		l.Scroll += l.Height / 2
	case term.PageUp:
		l.Scroll = max(0, l.Scroll-l.Height/2)
	case term.Home:
		l.Scroll = 0
	}
}
