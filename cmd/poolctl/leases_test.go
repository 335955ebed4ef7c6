package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

// hold takes leases of two pools, each for as long as the next caller.
func (h *host) hold() (ids []string) {
	h.t.Helper()
	h.fill()
	h.reg.CountLeases(h.leases.Active)
	for _, id := range []string{"gemma", "llama3-8b"} {
		seat := lease.Seat{Replica: "r0", Stable: "r0", Run: "1", Slots: 4, Open: true,
			Endpoint: "http://127.0.0.1:21000"}
		h.leases.SetPool(id, lease.Pool{Seats: []lease.Seat{seat}}, func(string) string { return "" })
	}
	for i, ask := range []lease.Ask{
		{Pool: "llama3-8b", Holder: "gateway-1", TTL: 10 * time.Minute},
		{Pool: "gemma", TTL: time.Hour},
		{Pool: "llama3-8b", Holder: "gateway-2", TTL: time.Minute},
	} {
		h.passed.advance(time.Duration(2-i) * 20 * time.Second)
		l, err := h.leases.Acquire(h.t.Context(), ask)
		if err != nil {
			h.t.Fatal(err)
		}
		ids = append(ids, l.ID)
	}
	h.passed.advance(12 * time.Second)
	return ids
}

// masked replaces ids, which are random.
func masked(text string, ids []string) string {
	for i, id := range ids {
		text = strings.ReplaceAll(text, id, fmt.Sprintf("l-%0*d", len(id)-2, i))
	}
	return text
}

// TestLeases: each form of the list, and what is refused before anything is asked.
func TestLeases(t *testing.T) {
	h := newHost(t)
	ids := h.hold()
	for _, c := range []struct{ name, line string }{
		{"leases", "leases"},
		{"leases-wide", "leases -o wide"},
		{"leases-name", "leases llama* -o name"},
		{"leases-json", "leases gemma -o json"},
		{"leases-yaml", "leases --holder gateway-1 -o yaml"},
		{"leases-template", "leases -o jsonpath={.leases[*].holder}"},
		{"leases-none", "leases typo"},
		{"leases-unknown", "leases gema"},
		{"leases-release-what", "leases --release"},
		{"leases-release-and-watch", "leases gemma --release --watch"},
		{"leases-yes-to-what", "leases --yes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.run(strings.Fields(c.line)...)
			got := fmt.Sprintf("$ poolctl %s\n%s", c.line, r.out)
			if r.errOut != "" {
				got += "-- standard error --\n" + r.errOut
			}
			got += fmt.Sprintf("-- exit status %d --\n", r.code)
			golden.File(t, filepath.Join("testdata", c.name+".golden"), masked(got, ids), *update)
		})
	}
}

// TestReleaseOfLeases: only a yes releases, and only what was listed.
func TestReleaseOfLeases(t *testing.T) {
	for _, c := range []struct {
		name, line, answer string
		code               int
		says, left         string
	}{
		{"a_yes", "leases --holder gateway-1 --release", "y\n", 0, "of gateway-1 on llama3-8b/r0 is released", "12"},
		{"a_no", "leases --holder gateway-1 --release", "n\n", 1, "nothing was changed", "012"},
		{"an_empty_line", "leases --holder gateway-1 --release", "\n", 1, "nothing was changed", "012"},
		{"no_terminal", "leases --holder gateway-1 --release", "", 1, "--yes answers for programs", "012"},
		{"without_a_question", "leases llama3-8b --release --yes", "", 0, "is released", "1"},
		{"all", "leases --all --release -y", "", 0, "is released", ""},
		{"several_are_counted", "leases --all --release", "yes\n", 0, "Release these 3 leases?", ""},
		{"one_by_its_id", "leases --lease l-0,x --release -y", "", 0, "is released", "12"},
		{"none_that_is_meant", "leases --holder nine --release -y", "", 0, "No leases.", "012"},
		{"in_json", "leases gemma --release -y -o json", "", 0, `"holder":""`, "02"},
		{"ids_alone", "leases gemma --release -y -o name", "", 0, "l-1\n", "02"},
		{"another_pool", "leases nine --release -y", "", 3, "there is no pool nine", "012"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			ids := h.hold()
			line := c.line
			for i, id := range ids {
				line = strings.ReplaceAll(line, fmt.Sprintf("l-%d", i), id)
			}
			var out, errOut syncBuffer
			a := &app{in: strings.NewReader(c.answer), out: &out, err: &errOut, now: func() time.Time { return clock }}
			code := run(t.Context(), a, append(strings.Fields(line), "--socket", h.socket))
			text := out.String() + errOut.String()
			for i, id := range ids {
				text = strings.ReplaceAll(text, id, fmt.Sprintf("l-%d", i))
			}
			if code != c.code || !strings.Contains(text, c.says) {
				t.Errorf("exit status %d\n%s", code, text)
			}
			left := ""
			for i, id := range ids {
				if r := h.run("leases", "-o", "name"); strings.Contains(r.out, id) {
					left += fmt.Sprint(i)
				}
			}
			if left != c.left {
				t.Errorf("left are %q, want %q", left, c.left)
			}
		})
	}
	t.Run("what_could_not_be_saved_is_reported", func(t *testing.T) {
		h := newHost(t)
		h.hold()
		h.store.broken.Store(true)
		r := h.run("leases", "--all", "--release", "--yes")
		if r.code != exitFailed || !strings.Contains(r.errOut, "STATE_NOT_SAVED") || r.out != "" {
			t.Errorf("%d %s%s", r.code, r.out, r.errOut)
		}
	})
}

// TestLeasesAreCompleted: holders and ids, of the pools that are named.
func TestLeasesAreCompleted(t *testing.T) {
	h := newHost(t)
	ids := h.hold()
	for _, c := range []struct{ line, want string }{
		{"leases --holder gateway-1", "gateway-1\n"},
		{"leases gemma --lease l-", ids[1] + "\n"},
		{"leases ge", "gemma\tready\n"},
	} {
		words := append([]string{"__complete", "--socket", h.socket}, strings.Fields(c.line)...)
		if r := poolctl(t.Context(), words...); !strings.HasPrefix(r.out, c.want+":") {
			t.Errorf("%s: %s%s", c.line, r.out, r.errOut)
		}
	}
}

// TestWatchOfLeases: a renewal is no change.
func TestWatchOfLeases(t *testing.T) {
	h := newHost(t)
	ids := h.hold()
	w := watch(t, false, "leases", "llama3-8b", "--watch", "-o", "json", "--socket", h.socket)
	w.until(ids[0], 1)
	for range 5 {
		if _, err := h.leases.Renew(t.Context(), "llama3-8b", ids[0], time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.leases.Release(t.Context(), "llama3-8b", ids[0]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); strings.Count(w.out.String(), "\n") < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(w.out)
		}
	}
	lines := strings.Split(strings.TrimSpace(w.end()), "\n")
	var last wire.LeaseList
	err := json.Unmarshal([]byte(lines[len(lines)-1]), &last)
	if err != nil || len(lines) != 2 || len(last.Leases) != 1 {
		t.Errorf("%v %q", err, lines)
	}
}
