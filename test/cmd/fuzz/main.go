// Command fuzz runs every fuzz target of the tree for a while each, and prints how many inputs each
// has tried. An input that fails is where go test leaves it, in testdata/fuzz of its package.
//
// Usage: fuzz [-time 10s] [-many N] [-keep 16] [-run REGEXP] [-record PAGE]. With -many, each
// target tries so many inputs that are not guided by coverage, in its time, and those alone.
// With -keep, the shortest of the inputs that reached new code are copied from Go's cache into
// testdata/fuzz, so that each target has at least so many of them there: all later test runs try
// those first. With -record, what was tried is added to the totals of a page.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// options are those of the command line.
type options struct {
	time   string
	many   int
	keep   int
	only   string
	record string
}

func main() {
	var o options
	flag.StringVar(&o.time, "time", "10s", "how long each target runs, as -fuzztime of go test: 10s, or 1000000x")
	flag.IntVar(&o.many, "many", 0, "how many unguided inputs each target tries, within -time, and no others")
	flag.IntVar(&o.keep, "keep", 0, "how many inputs of each target to have in testdata/fuzz at least")
	flag.StringVar(&o.only, "run", "", "only targets whose `PACKAGE.NAME` matches this regular expression")
	flag.StringVar(&o.record, "record", "", "the `PAGE` with the inputs that were tried in all, to add these to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	pattern, err := regexp.Compile(o.only)
	if err != nil {
		return err
	}
	all, err := find(".")
	if err != nil {
		return err
	}
	targets := slices.DeleteFunc(slices.Clone(all), func(t target) bool { return !pattern.MatchString(t.String()) })
	if len(targets) == 0 {
		return fmt.Errorf("no target matches %q", o.only)
	}
	failed := 0
	for i := range targets {
		t := &targets[i]
		err := t.try(ctx, o)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed++
			fmt.Fprintf(os.Stderr, "%s: %v\n", t, err)
		} else if err := t.keep(o.keep); err != nil {
			return err
		}
		fmt.Printf("%s: %d inputs\n", t, t.inputs+t.mutated)
		if o.record != "" { // after each, for a run may be interrupted
			if err := record(o.record, all, *t); err != nil {
				return err
			}
		}
	}
	table(targets)
	if failed > 0 {
		return fmt.Errorf("%d of %d targets failed", failed, len(targets))
	}
	return nil
}

// try runs the target as the options say.
func (t *target) try(ctx context.Context, o options) (err error) {
	if o.many > 0 {
		t.mutated, err = t.mutate(ctx, o.many, o.time)
	} else {
		t.inputs, err = t.fuzz(ctx, o.time)
	}
	return err
}

// target is a fuzz target.
type target struct {
	dir, name string
	inputs    int // that were tried, guided by coverage
	mutated   int // that were tried and not guided
}

func (t target) String() string { return t.dir + "." + t.name }

var declared = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]*)\(`)

// find finds the targets below a directory, in their order.
func find(root string) ([]target, error) {
	var found []target
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		hidden := strings.HasPrefix(d.Name(), ".")
		if d.IsDir() && path != root && (hidden || d.Name() == "dist" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			found = append(found, target{dir: filepath.ToSlash(filepath.Dir(path)), name: string(m[1])})
		}
		return err
	})
	slices.SortFunc(found, func(a, b target) int { return strings.Compare(a.String(), b.String()) })
	return found, err
}

// minimizeTime bounds how long each input that reaches new code is made smaller. Go's own is a
// minute, in which a target with inputs of some kilobytes tries none.
const minimizeTime = "200x"

// fuzz runs the target and returns how many inputs it has tried.
func (t target) fuzz(ctx context.Context, fuzzTime string) (int, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "./"+t.dir, "-run", "^$", "-fuzz", "^"+t.name+"$",
		"-fuzztime", fuzzTime, "-fuzzminimizetime", minimizeTime)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go test ends its workers
	out, err := cmd.CombinedOutput()
	if err != nil && endOfTime.Match(out) && ctx.Err() == nil {
		err = nil
	} else if err != nil {
		err = fmt.Errorf("%w\n%s", err, out)
	}
	return inputs(string(out)), err
}

// endOfTime is how go test fails, without an input, where the time ends while it looks at one
// (https://go.dev/issue/75804).
var endOfTime = regexp.MustCompile(`(?m)^--- FAIL: .*\n    context deadline exceeded\n(FAIL|exit status 1)$`)

var executions = regexp.MustCompile(`(?m)^fuzz: .*execs: (\d+)`)

// inputs is the last count that go test has printed.
func inputs(out string) int {
	all := executions.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return 0
	}
	n, err := strconv.Atoi(all[len(all)-1][1])
	if err != nil {
		return 0 // more digits than a number has
	}
	return n
}

// maxKept is the size of the largest file that is kept: the corpus is a part of the source.
const maxKept = 2 << 10

// keep copies inputs from Go's cache, the shortest first, until the target has so many.
func (t target) keep(atLeast int) error {
	kept := filepath.Join(t.dir, "testdata", "fuzz", t.name)
	have, err := os.ReadDir(kept)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	missing := atLeast - len(have)
	if missing <= 0 {
		return nil
	}
	cached, err := t.cached()
	if err != nil {
		return err
	}
	for _, file := range spread(cached, missing) {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.MkdirAll(kept, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(kept, filepath.Base(file)), text, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cache is the directory in which Go keeps what coverage has found.
func (t target) cache() (string, error) {
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return "", err
	}
	pkg, err := exec.Command("go", "list", "./"+t.dir).Output()
	return filepath.Join(strings.TrimSpace(string(cache)), "fuzz", strings.TrimSpace(string(pkg)), t.name), err
}

// cached are the target's inputs in Go's cache that are small enough, the shortest first.
func (t target) cached() ([]string, error) {
	dir, err := t.cache()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	sizes := make(map[string]int64)
	var files []string
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Size() <= maxKept {
			file := filepath.Join(dir, e.Name())
			sizes[file] = info.Size()
			files = append(files, file)
		}
	}
	slices.SortFunc(files, func(a, b string) int {
		if sizes[a] != sizes[b] {
			return int(sizes[a] - sizes[b])
		}
		return strings.Compare(a, b)
	})
	return files, err
}

// spread picks n of a list, evenly from its beginning to its end.
func spread(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	var picked []string
	for i := range n {
		picked = append(picked, list[i*len(list)/n])
	}
	return picked
}

func table(targets []target) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	sum := 0
	for _, t := range targets {
		sum += t.inputs + t.mutated
		fmt.Fprintf(w, "%d\t  %s\t\n", t.inputs+t.mutated, t)
	}
	fmt.Fprintf(w, "%d\t  in all\t\n", sum)
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
	}
}
