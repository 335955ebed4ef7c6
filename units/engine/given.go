package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Given is a whole command line of an engine, as another program prepared it, taken apart: what a
// pool has keys for, and the arguments that remain. A field is its zero value where no flag gives
// it.
type Given struct {
	Model string
	Host  string
	Port  int
	Ctx   int // tokens of one request
	Slots int
	Split []float64 // shares that sum to 1

	Args []string
	At   []int // where each of Args was
	// Wrong are flags without a value, or with one that they cannot have.
	Wrong []WrongFlag
}

// WrongFlag is a flag that cannot be read: its place in the command line, and what continues it in
// a message, as "is --port without a value".
type WrongFlag struct {
	At      int
	Message string
}

// flagKey is the key of a pool that a managed flag gives the value of.
type flagKey int

const (
	keyNone flagKey = iota
	keyModel
	keyHost
	keyPort
	keyCtx
	keySlots
	keySplit
)

// given takes the flags of a table out of a command line. words are what may come before the model
// where that is an argument without a flag, nil where it never is.
func (s flagSyntax) given(args []string, table []managedFlag, words ...string) Given {
	var g Given
	for i := 0; i < len(args); i++ {
		name := s.name(args[i])
		key := s.keyOf(table, name)
		if key == keyNone {
			g.keep(args[i], i)
			continue
		}
		value, inline := s.inline(args[i], name)
		if !inline && i+1 >= len(args) {
			g.wrong(i, "is %s without a value", name)
			break
		}
		at := i
		if !inline {
			i++
			value = args[i]
		}
		g.take(key, at, name, value)
	}
	if words != nil {
		g.positional(words)
	}
	return g
}

// keyOf is the key that a flag gives the value of.
func (s flagSyntax) keyOf(table []managedFlag, name string) flagKey {
	for _, m := range table {
		if s.means(name, m.Spellings...) != "" {
			return m.Key
		}
	}
	return keyNone
}

// inline is the value that follows a flag in the same argument, as "--port=80" and, where the
// syntax knows it, "-p80" have it.
func (s flagSyntax) inline(arg, name string) (string, bool) {
	if _, value, found := strings.Cut(arg, "="); found {
		return value, true
	}
	if s.ShortValue && !strings.HasPrefix(arg, "--") && len(arg) > len(name) {
		return arg[len(name):], true
	}
	return "", false
}

func (g *Given) keep(arg string, at int) {
	g.Args, g.At = append(g.Args, arg), append(g.At, at)
}

// without drops flags that have no value.
func (g *Given) without(flags ...string) {
	for i := len(g.Args) - 1; i >= 0; i-- {
		if slices.Contains(flags, g.Args[i]) {
			g.Args, g.At = slices.Delete(g.Args, i, i+1), slices.Delete(g.At, i, i+1)
		}
	}
}

func (g *Given) wrong(at int, format string, args ...any) {
	g.Wrong = append(g.Wrong, WrongFlag{at, fmt.Sprintf(format, args...)})
}

// take takes the value of one flag; of several, the last one counts, as it does for the engines.
func (g *Given) take(key flagKey, at int, name, value string) {
	switch key {
	case keyModel:
		g.Model = value
	case keyHost:
		g.Host = value
	case keyPort:
		g.number(&g.Port, 1, 65535, at, name, value)
	case keyCtx:
		g.number(&g.Ctx, 0, 1<<24, at, name, value)
	case keySlots:
		g.number(&g.Slots, -1, 4096, at, name, value)
		g.Slots = max(g.Slots, 0) // -1 lets llama-server choose
	case keySplit:
		g.split(at, name, value)
	}
}

func (g *Given) number(into *int, low, high, at int, name, value string) {
	n, err := strconv.Atoi(value)
	if err != nil || n < low || n > high {
		g.wrong(at, "is %s %q, want a whole number from %d to %d", name, value, low, high)
		return
	}
	*into = n
}

// split reads shares in any unit, "3,1", and makes them sum to 1.
func (g *Given) split(at int, name, value string) {
	var shares []float64
	sum := 0.0
	for _, text := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '/' }) {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !(x > 0 && x < 1e9) {
			g.wrong(at, "is %s %q, want numbers above 0, joined by commas", name, value)
			return
		}
		shares, sum = append(shares, x), sum+x
	}
	for i := range shares {
		shares[i] /= sum
	}
	g.Split = shares
}

// positional takes the model out of what remains where it is the first argument, behind the words
// of a command such as "serve".
func (g *Given) positional(words []string) {
	n := 0
	for n < len(g.Args) && slices.Contains(words, g.Args[n]) {
		n++
	}
	if n < len(g.Args) && !strings.HasPrefix(g.Args[n], "-") && g.Model == "" {
		g.Model = g.Args[n]
		n++
	}
	g.Args, g.At = g.Args[n:], g.At[n:]
}

// OfBinary returns the kind of engine that a program is by its name: "llama-server",
// "llama-server-cuda" and "llama-server.sh" are llama.cpp's. One that no adapter knows is Program.
func OfBinary(binary string) string {
	name := filepath.Base(binary)
	for _, a := range adapters() {
		own := a.DefaultBinary()
		rest, found := strings.CutPrefix(name, own)
		if own != "" && found && (rest == "" || strings.ContainsAny(rest[:1], "-_.")) {
			return a.Kind()
		}
	}
	return Program
}
