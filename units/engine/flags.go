package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// managedFlag is a flag that an adapter writes itself from a key of the pool file.
type managedFlag struct {
	Spellings []string // every spelling the engine takes, with its dashes
	Instead   string   // what to do instead, for the hint
	Variables []string // of the environment, with the same effect
	Why       string   // why the flag is refused, if the adapter does not write it itself
	Key       flagKey  // of which its value is, in a command line of another program
}

// flagSyntax is how an engine's argument parser reads a flag, beyond "--flag value".
type flagSyntax struct {
	Underscores bool // "--max_model_len" is "--max-model-len" (vLLM's parser, and llama.cpp's)
	ShortValue  bool // "-p80" is "-p 80" (clap)
	NoEquals    bool // "--flag=value" is not known (llama.cpp's parser)
	// Shortened: "--hos" is "--host" where no other option begins so (argparse of Python, and
	// getopt_long(3)).
	Shortened bool
}

// name returns the flag in arg as a managedFlag spells it, or "" when arg is no flag.
func (s flagSyntax) name(arg string) string {
	if !strings.HasPrefix(arg, "-") || arg == "-" || arg == "--" {
		return ""
	}
	name, _, _ := strings.Cut(arg, "=")
	if s.Underscores && strings.HasPrefix(name, "--") {
		name = strings.ReplaceAll(name, "_", "-")
	}
	if s.ShortValue && !strings.HasPrefix(name, "--") && len(name) > 2 {
		name = name[:2]
	}
	return name
}

// minShortened is the length of the shortest beginning that is taken for its option, with the
// dashes: those that are shorter begin several, which the parsers refuse.
const minShortened = len("--ho")

// means returns the spelling that a name, as name returns it, is read for; empty: it is none of
// them.
func (s flagSyntax) means(name string, spellings ...string) string {
	if name == "" || slices.Contains(spellings, name) {
		return name
	}
	if !s.Shortened || len(name) < minShortened || !strings.HasPrefix(name, "--") {
		return ""
	}
	for _, spelling := range spellings {
		// vLLM reads "--option.member" by itself, before its parser completes anything.
		if strings.HasPrefix(spelling, name) && !strings.Contains(spelling, ".") {
			return spelling
		}
	}
	return ""
}

// has reports whether the operator's arguments hold one of the flags.
func (s flagSyntax) has(args []string, flags ...string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return s.means(s.name(arg), flags...) != "" })
}

// refuse returns every argument of the operator that repeats a managed flag, and every variable
// with the effect of one: the engine would use one of the two values, and the manager might assume
// the other.
func (s flagSyntax) refuse(p pool.Pool, table []managedFlag) []pool.Refusal {
	var refused []pool.Refusal
	for i, arg := range p.Args {
		name := s.name(arg)
		if name == "" {
			continue
		}
		for _, m := range table {
			switch spelling := s.means(name, m.Spellings...); spelling {
			case "":
				continue
			case name:
			default:
				name += ", short for " + spelling
			}
			refused = append(refused, m.refuse(fmt.Sprintf("args[%d]", i), "args", name, p.Engine))
			break
		}
	}
	for _, m := range table {
		for _, name := range m.Variables {
			if _, set := p.Variables()[name]; set {
				key, where := p.Variable(name)
				refused = append(refused, m.refuse(key, where, name, p.Engine))
			}
		}
	}
	return refused
}

// refuse returns the refusal of a key that holds the flag or its variable; where is
// "args", or as Pool.Variable returns it.
func (m managedFlag) refuse(key, where, name, engine string) pool.Refusal {
	what := where + " holds " + name
	if where == "args" {
		what = key + " is " + name
	}
	hint := "Remove it from " + where + " and " + m.Instead + "."
	if m.Why != "" {
		return pool.Refuse(key, hint, "%s, which %s", what, m.Why)
	}
	return pool.Refuse(key, hint, "%s, which pool-managerd sets for engine %q", what, engine)
}

// Hints that several engines share.
const (
	useModel = "set the key model"
	useHost  = "leave it out: an engine listens on 127.0.0.1 only"
	usePort  = "set the key port, or port_range in config.toml"
	useCtx   = "set the key ctx (tokens a request)"
	useSlots = "set the key slots (requests at the same time)"
	noTLS    = "leave it out: the engine is reached in plain HTTP over the loopback"
)

// needModel refuses a pool without a model.
func needModel(p pool.Pool) []pool.Refusal {
	if p.Model != "" {
		return nil
	}
	return []pool.Refusal{pool.Refuse("model", `Set model = "file:/absolute/path".`, "engine %q needs a model",
		p.Engine)}
}

// noTensorSplit refuses tensor_split for an engine that splits evenly.
func noTensorSplit(p pool.Pool) []pool.Refusal {
	if len(p.TensorSplit) == 0 {
		return nil
	}
	splitting := strings.Join(Where(func(a Adapter) bool { return a.SplitsByShare() }), ", ")
	return []pool.Refusal{pool.Refuse("tensor_split", "Remove tensor_split; it works with engine "+splitting+".",
		"tensor_split has no meaning for engine %q, which splits evenly", p.Engine)}
}

// sidePort returns a second port of an engine that insists on one: offset above its own, or below
// where that would pass 65535. The default port_range 21000-21999 and its side ports 26000-26999
// and 31000-31999 stay below Linux's ephemeral ports (32768, ip(7)) and off each other.
func sidePort(port, offset int) string {
	if port+offset > 65535 {
		offset = -offset
	}
	return strconv.Itoa(port + offset)
}

// Offsets for sidePort.
const (
	metricsOffset    = 5000
	rendezvousOffset = 10000
)
