package engine

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Served returns the adapter of a pool's engine as it is asked: where the pool's arguments move the
// engine's paths, each path of the result begins with that prefix.
func Served(a Adapter, p pool.Pool) Adapter {
	moves, ok := a.(interface{ prefix(pool.Pool) string })
	if !ok {
		return a
	}
	prefix := moves.prefix(p)
	if prefix == "" {
		return a
	}
	return prefixed{a, prefix}
}

// Below returns what comes before every path of an adapter that Served has returned: "/x", or
// nothing.
func Below(a Adapter) string {
	moved, _ := a.(prefixed)
	return moved.below
}

// prefixed is an adapter whose engine serves below a path.
type prefixed struct {
	Adapter
	below string // begins with a slash and does not end with one
}

func (x prefixed) HealthPath() string   { return x.path(x.Adapter.HealthPath()) }
func (x prefixed) SlotsPath() string    { return x.path(x.Adapter.SlotsPath()) }
func (x prefixed) BusyPath() string     { return x.path(x.Adapter.BusyPath()) }
func (x prefixed) QueuePath() string    { return x.path(x.Adapter.QueuePath()) }
func (x prefixed) GeneratePath() string { return x.path(x.Adapter.GeneratePath()) }
func (x prefixed) ProgressPath() string { return x.path(x.Adapter.ProgressPath()) }

// path returns a path below the prefix; "" stays what it means.
func (x prefixed) path(own string) string {
	if own == "" {
		return ""
	}
	return x.below + own
}

// prefix is what --api-prefix puts before every path.
func (llamaCpp) prefix(p pool.Pool) string {
	f := llamaCpp{}.flags(p)
	prefix, _ := f.value("LLAMA_ARG_API_PREFIX", "--api-prefix")
	return prefix
}

// prefixFits refuses a prefix below which the server would not be found.
func prefixFits(p pool.Pool) []pool.Refusal {
	prefix := llamaCpp{}.prefix(p)
	if prefix == "" || strings.HasPrefix(prefix, "/") && !strings.HasSuffix(prefix, "/") &&
		!strings.ContainsAny(prefix, " \t?#%") {
		return nil
	}
	key := "args"
	if _, given := (flagSet{args: p.Args, syntax: llamaSyntax}).value("", "--api-prefix"); !given {
		key, _ = p.Variable("LLAMA_ARG_API_PREFIX")
	}
	return []pool.Refusal{pool.Refuse(key, `Begin it with a slash, and end it without one: "/llama3".`,
		"--api-prefix %q is no path of a URL", prefix)}
}
