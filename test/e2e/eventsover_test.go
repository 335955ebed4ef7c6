//go:build machine

package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

var eventID = regexp.MustCompile(`(?m)^id: (\S+)$`)

// TestEventsOverRestarts: a reader that returns with the id of its last event has what came
// between, over a restart of the manager, and after a kill a gap and no number twice.
func TestEventsOverRestarts(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", command().quick())
	h.reload()
	h.wait("a", isReady)
	events := func(last string) string {
		ctx, cancel := h.within()
		defer cancel()
		header := http.Header{}
		path := "/v1/events?follow=false"
		if last == "" {
			path += "&replay=true"
		} else {
			header.Set("Last-Event-ID", last)
		}
		a, err := h.Do(ctx, http.MethodGet, path, header)
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("%v %d %s", err, a.Status, a.Body)
		}
		return string(a.Body)
	}
	ids := func(text string) (all []string) {
		for _, m := range eventID.FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		return all
	}
	before := ids(events(""))
	if len(before) == 0 {
		t.Fatal("there are no events")
	}
	last := before[len(before)-1]
	h.must("poolctl", "drain", "a")
	h.must("systemctl", "restart", host.ManagerUnit)
	missed := events(last)
	if strings.Contains(missed, "event: gap") || !strings.Contains(missed, "event: drain") {
		t.Errorf("after a restart:\n%s", missed)
	}
	all := ids(events(""))
	if all[0] != before[0] {
		t.Errorf("the oldest event was %s, and is %s", before[0], all[0])
	}
	last = all[len(all)-1]
	h.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", host.ManagerUnit)
	h.must("poolctl", "resume", "a")
	h.wait("a", isReady)
	after := events(last)
	if !strings.Contains(after, `event: gap`+"\n"+`data: {"missed":null,`) || !strings.Contains(after, "event: ready") {
		t.Errorf("after a kill:\n%s", after)
	}
	seen := make(map[string]bool)
	for _, id := range append(all, ids(after)...) {
		if seen[id] {
			t.Errorf("%s was given twice", id)
		}
		seen[id] = true
	}
}
