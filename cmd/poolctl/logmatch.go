package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// managerUnit is the daemon's.
const managerUnit = "pool-managerd.service"

// coredumpSlice matches what instances of systemd-coredump@.service log: the slice of a template's
// instances is named after it (systemd.slice(5)).
const coredumpSlice = `_SYSTEMD_SLICE=system-systemd\x2dcoredump.slice`

// matchesOf returns journalctl's matches for the lines of a pool. Each group has a field that
// journald sets itself, from the sender's control group or credentials (systemd.journal-fields(7)):
// any local user, and any engine, can log with POOL_ID=, UNIT= or OBJECT_SYSTEMD_UNIT= of others.
// The groups are those of journalctl --unit, and the daemon's own lines. terms hold in each of
// them.
func matchesOf(id string, units, terms []string) []string {
	each := func(field string) []string {
		var out []string
		for _, u := range units {
			out = append(out, field+"="+u)
		}
		return out
	}
	groups := [][]string{
		each("_SYSTEMD_UNIT"),
		append(each("UNIT"), "_PID=1"),
		append(each("OBJECT_SYSTEMD_UNIT"), "_UID=0"),
		append(each("COREDUMP_UNIT"), coredumpSlice),
		{"_SYSTEMD_UNIT=" + managerUnit, "POOL_ID=" + id},
	}
	var out []string
	for i, g := range groups {
		if i > 0 {
			out = append(out, "+")
		}
		out = slices.Concat(out, g, terms)
	}
	return out
}

var matchTerm = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=`)

// valued are journalctl's options whose value may be the next argument (journalctl(1)).
var valued = []string{"--since", "-S", "--until", "-U", "--cursor", "-c", "--after-cursor", "--cursor-file", "--unit", "-u",
	"--user-unit", "--identifier", "-t", "--exclude-identifier", "-T", "--facility", "--priority", "-p", "--grep", "-g",
	"--invocation", "--output", "-o", "--output-fields", "--lines", "-n", "--directory", "-D", "--file", "-i", "--root",
	"--image", "--image-policy", "--machine", "-M", "--namespace", "--field", "-F", "--boot", "-b"}

// splitFurther separates journalctl's options from the terms FIELD=value among the caller's
// arguments. A term at the end of the command line would hold for the last group of matches only.
func splitFurther(further []string) (options, terms []string, err error) {
	for i, arg := range further {
		switch value := i > 0 && slices.Contains(valued, further[i-1]); {
		case !value && matchTerm.MatchString(arg):
			terms = append(terms, arg)
		case !value && (arg == "+" || strings.HasPrefix(arg, "/")):
			return nil, nil, usage("%q cannot be used here: name fields as FIELD=value", arg)
		default:
			options = append(options, arg)
		}
	}
	return options, terms, nil
}

// The bounds of the questions before journalctl is run; the journal does not need their answers.
const (
	noteTimeout  = time.Second
	fieldTimeout = 10 * time.Second
	fieldLimit   = 4 << 20 // bytes
)

// unitsOf returns the units of a pool's replicas: those of now, those that the journal has lines
// of, and both of the first replica in any case. It prints a note if there is no such pool now.
func (a *app) unitsOf(ctx context.Context, id string) []string {
	first := pool.Replica{Pool: id}
	units := []string{first.Unit(), first.Other().Unit()}
	for _, r := range a.replicasOf(ctx, id) {
		units = append(units, r.Unit)
	}
	units = append(units, a.loggedUnits(ctx)...)
	slices.Sort(units)
	return slices.DeleteFunc(slices.Compact(units), func(unit string) bool {
		r, ok := pool.ParseUnit(unit)
		return !ok || r.Pool != id
	})
}

// loggedUnits are the units that the journal has lines of. The journal may have those of replicas
// that are gone.
func (a *app) loggedUnits(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, fieldTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.journalctl, "--quiet", "--field=_SYSTEMD_UNIT")
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(out, fieldLimit)) // what came is used
	_ = out.Close()
	_ = cmd.Wait()
	return strings.Fields(string(text))
}

// replicasOf asks the daemon for a pool's replicas, and prints a note if it has no such pool.
func (a *app) replicasOf(ctx context.Context, id string) []wire.Replica {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	c, err := newClient(a.o)
	if err != nil {
		return nil
	}
	p, _, err := got(c.GetPool(ctx, id))
	var e *exitError
	if err = withNearest(ctx, c, id, err); errors.As(err, &e) && e.code == exitNoPool {
		fmt.Fprintf(a.err, "poolctl: %s; the journal may have earlier lines of it. %s\n", clean(e.text), clean(e.hint))
	}
	return p.Replicas
}
