// Package pattern compiles regular expressions when they are first used. A compiled one takes some
// kilobytes, or a hundred of them where it counts repetitions, and its time: the manager keeps it
// for as long as it runs, and the gate is executed at each start of each engine. Most are for what
// goes wrong, and never used.
//
// It owns that moment. It must not know any expression.
package pattern

import (
	"regexp"
	"sync"
)

// Lazy returns a function that compiles an expression at its first call. It may be called from any
// goroutine, and panics if the expression is invalid, as regexp.MustCompile does.
func Lazy(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
