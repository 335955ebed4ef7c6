package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// mutate has the target try so many inputs that are not guided by coverage, by test/mutate, in the
// time that it has, and returns how many it has tried. A process of go test tries a part of them
// for each input that the target begins with, so that few of those take several processes.
func (t target) mutate(ctx context.Context, goal int, d string) (int, error) {
	limit, err := time.ParseDuration(d)
	if err != nil {
		return 0, fmt.Errorf("-time with -many: %w", err)
	}
	end := time.Now().Add(limit)
	corpus, err := t.cache()
	if err != nil {
		return 0, err
	}
	built, err := os.MkdirTemp("", "fuzz-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(built) }() // of this run alone
	program := filepath.Join(built, "test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./"+t.dir)
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	tried := 0
	for tried < goal && time.Now().Before(end) {
		cmd := exec.CommandContext(ctx, program, "-test.run", "^"+t.name+"$", "-test.timeout", "0")
		cmd.Dir = t.dir
		cmd.Env = append(os.Environ(), "GOGC=400", mutate.Inputs+"="+strconv.Itoa(goal-tried),
			mutate.Until+"="+strconv.FormatInt(end.Unix(), 10), mutate.Corpus+"="+corpus)
		out, err := cmd.CombinedOutput()
		n := mutated(string(out))
		tried += n
		if err != nil {
			return tried, fmt.Errorf("%w\n%s", err, out)
		}
		if n == 0 {
			break // the time is over, or the target does not use test/mutate
		}
	}
	return tried, nil
}

var mutatedLine = regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(mutate.Line) + `(\d+)$`)

// mutated is the sum of what a process has counted.
func mutated(out string) int {
	sum := 0
	for _, m := range mutatedLine.FindAllStringSubmatch(out, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil {
			sum += n
		}
	}
	return sum
}
