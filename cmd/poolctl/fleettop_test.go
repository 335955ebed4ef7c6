package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// TestFleetTopNeedsATerminal: a pipe gets an error that names what prints lines.
func TestFleetTopNeedsATerminal(t *testing.T) {
	s := newFleetSite(t)
	if r, _ := typedOn(t, s.app, "fleet", "top"); r.code != exitFailed || r.out != "" ||
		!strings.Contains(r.errOut, "poolctl fleet top needs a terminal") ||
		!strings.Contains(r.errOut, "poolctl fleet events") {
		t.Errorf("%d %q %s", r.code, r.out, r.errOut)
	}
	if r, _ := typedOn(t, s.app, "fleet", "top", "-o", "json"); r.code != exitUsage ||
		!strings.Contains(r.errOut, "fleet events -o json") {
		t.Errorf("-o json: %d %s", r.code, r.errOut)
	}
}

// TestFleetTopInATerminal: the view follows pool-fleet's stream, over a loss of etcd and a restart
// of pool-fleet.
func TestFleetTopInATerminal(t *testing.T) {
	site := newFleetSite(t)
	dir := t.TempDir()
	if err := os.Symlink(site.root, filepath.Join(dir, "root")); err != nil {
		t.Fatal(err)
	}
	s := newScreen(t, 80, 24, "xterm-256color", "POOLCTL_ADMIN="+filepath.Join(dir, "a"))
	s.start("fleet", "top")
	site.source.whole(fleetKeys())
	s.waitFor("qwen")
	s.golden("fleet-top-80x24")
	keys := record.Below("/pool-managerd")
	llama := record.Pool{Schema: 1, ID: "llama3", State: "draining", Draining: true, SlotsTotal: 8}
	site.source.batches <- view.Batch{Kind: view.Changed, Revision: 8, KVs: []view.KV{{
		Key: keys.Pool(machine(1), "llama3"), Value: record.Encode(llama)}}}
	s.waitFor("gpu1/llama3  draining")
	site.source.batches <- view.Batch{Kind: view.Lost, Err: errors.New("no leader")}
	s.waitFor("OLD for 0s: etcd cannot be read: no leader")
	fresh := func(text string) bool { return !strings.Contains(text, "OLD") }
	site.source.whole(fleetKeys()[:3])
	s.waitUntil("a fleet that is read again", fresh)
	s.waitFor("host     cpu1 is gone")
	site.end()
	s.waitFor("this host reads no fleet")
	site.serve(t)
	site.source.whole(fleetKeys())
	s.waitUntil("a pool-fleet that runs again", fresh)
	s.waitFor("host     cpu1 is there")
	s.keys("g", "g")
	s.waitFor("grouped by model")
	s.keys("q")
	s.waitFor("shell>")
	s.wantRestored(0)
}

// TestFleetTopByAManager: where an address is given, the manager there is asked for the list.
func TestFleetTopByAManager(t *testing.T) {
	h := newHost(t)
	s := newScreen(t, 80, 24, "xterm-256color")
	if err := os.Symlink(h.socket, filepath.Join(s.dir, "api.sock")); err != nil {
		t.Fatal(err)
	}
	s.start("fleet", "top", "--socket", "api.sock", "--node", "gpu*", "--model", "*llama3*")
	s.waitFor("fleet by api.sock")
	s.waitUntil("the pools that are meant", func(text string) bool {
		return strings.Count(text, "llama3 ") >= 2 && !strings.Contains(text, "qwen") && !strings.Contains(text, "cpu1")
	})
	s.keys("C-c")
	s.waitFor("shell>")
	s.wantRestored(0)
}
