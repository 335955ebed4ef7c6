package trial

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names of the report's files, in the directory for results.
const (
	reportName = "gpu"
	insideName = "inside"
	doneFile   = "inside.done"
)

// insideLimit bounds the steps in the container, and its boot.
const insideLimit = 330 * time.Second

// Run makes the whole trial on this host and writes the report to the tools' directory for results.
// say is called with each table as soon as it is there.
func Run(ctx context.Context, tools Tools, say func(Table)) (Report, error) {
	if tools.Fake {
		stop, err := startFake(ctx, tools)
		if err != nil {
			return Report{}, err
		}
		defer func() { _ = stop() }()
	}
	report := Report{Taken: time.Now(), Host: hostFacts(ctx, tools)}
	add := func(t Table) {
		report.Tables = append(report.Tables, t)
		say(t)
	}
	if err := tools.compile(ctx); err != nil {
		add(Table{Title: "CUDA C++", NotRun: err.Error()})
	}
	RunAll(ctx, []Step{Figures(tools), Memory(tools)}, add)
	for _, t := range runInside(ctx, tools) {
		add(t)
	}
	return report, report.Write(tools.Out, reportName)
}

// runInside runs the steps that need systemd. What they found before a failure is returned, too.
func runInside(ctx context.Context, tools Tools) []Table {
	ctx, cancel := context.WithTimeout(ctx, insideLimit)
	defer cancel()
	c, err := startContainer(tools)
	if err != nil {
		return []Table{{Title: "A systemd in a container", NotRun: err.Error()}}
	}
	waited := c.wait(ctx)
	copied := c.keepResults(tools)
	inside, read := Read(filepath.Join(tools.Out, insideName+".json"))
	tables := inside.Tables
	for _, err := range []error{waited, copied, read, c.close()} {
		if err != nil {
			tables = append(tables, Table{Title: "A systemd in a container", NotRun: err.Error()})
		}
	}
	return tables
}

// keepResults copies what the container wrote.
func (c *container) keepResults(t Tools) error {
	_, err := output(context.Background(), "cp", "-r", c.results()+"/.", t.Out)
	return err
}

// Inside runs the steps in the container and writes their report after each.
func Inside(ctx context.Context, tools Tools) error {
	var report Report
	var failed error
	RunAll(ctx, insideSteps(tools), func(t Table) {
		report.Tables = append(report.Tables, t)
		failed = report.Write(tools.Out, insideName)
	})
	if failed != nil {
		return failed
	}
	return os.WriteFile(filepath.Join(tools.Out, doneFile), nil, 0o644)
}

// hostFacts describes the host, one fact each.
func hostFacts(ctx context.Context, tools Tools) []string {
	var facts []string
	if rows, err := smi(ctx, tools.SMI, []string{"name", "driver_version"}); err == nil && len(rows) > 0 {
		facts = append(facts, fmt.Sprintf("%d × %s", len(rows), rows[0][0]), "driver "+rows[0][1])
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version, _, _ := strings.Cut(strings.TrimSpace(string(text)), "-")
		facts = append(facts, "Linux "+version)
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				facts = append(facts, strings.Trim(strings.TrimSpace(name), `"`))
			}
		}
	}
	if tools.Python != "" {
		const ask = "import sys, torch; print('Python', sys.version.split()[0] + ', PyTorch', torch.__version__)"
		if text, err := output(ctx, tools.Python, "-c", ask); err == nil {
			facts = append(facts, strings.TrimSpace(text))
		}
	}
	return facts
}
