package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

func TestCommandLine(t *testing.T) {
	const url = "http://127.0.0.1:1/health"
	cases := []struct {
		name    string
		args    []string
		mainPID string
		says    string
	}{
		{"nothing", nil, "1", "usage: pool-gate"},
		{"unknown_flag", []string{"--url", url, "--no-such-flag"}, "1", "no-such-flag"},
		{"stray_word", []string{"--url", url, "word"}, "1", "usage: pool-gate"},
		{"no_time", []string{"--url", url, "--stall", "0s"}, "1", "usage: pool-gate"},
		{"not_a_duration", []string{"--url", url, "--stall", "5"}, "1", "-stall"},
		{"not_run_by_pid_1", []string{"--url", url}, "", "MAINPID is not set"},
		{"another_host", []string{"--url", "http://192.0.2.1:1/health"}, strconv.Itoa(os.Getpid()), "is not of the form"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("MAINPID", c.mainPID)
			var stderr strings.Builder
			if got := run(c.args, &stderr); got != exit.Usage || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("exit %d, want %d, and %q in:\n%s", got, exit.Usage, c.says, &stderr)
			}
		})
	}
}
