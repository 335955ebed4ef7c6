package fleettop

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview/listviewtest"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the golden files")

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func host(n int) wire.FleetHost {
	return wire.FleetHost{MachineID: fmt.Sprintf("%032x", n), BootID: "b", Name: fmt.Sprintf("gpu%d", n),
		Address: fmt.Sprintf("https://gpu%d.example.org:9200", n), Version: "0.1.0"}
}

// pool is one of a host; "!" after its id: it is in trouble.
func pool(n int, id, model string) *wire.FleetPool {
	h := host(n)
	p := &wire.FleetPool{Node: h.Name, MachineID: h.MachineID, Address: h.Address, ID: strings.TrimSuffix(id, "!"),
		Engine: "llamacpp", EngineVersion: "b6527", ModelID: model, State: "ready", Ready: true, SlotsTotal: 8,
		SlotsFree: 8 - n, ActiveLeases: n, RestartCount: n - 1, DeviceMask: []string{"GPU-1a2b"},
		Replicas: []wire.FleetReplica{{ID: "r0", State: "ready", Endpoint: "http://127.0.0.1:21000"}}}
	if strings.HasSuffix(id, "!") {
		p.State, p.Ready, p.SlotsFree, p.SlotsTotal = "backoff", false, 0, 0
		p.LastError, p.Hint = "CUDA_OOM: out of memory while loading", "Lower ctx or slots."
	}
	return p
}

// whole is a fleet of three hosts, and further pools on the first.
func whole(further int) Whole {
	list := wire.FleetPools{Hosts: []wire.FleetHost{host(1), host(2), host(3)}, Pools: []wire.FleetPool{
		*pool(1, "llama3", "hf:acme/llama3:Q8_0"), *pool(2, "llama3", "hf:acme/llama3:Q8_0"),
		*pool(2, "qwen!", "hf:acme/qwen-with-a-long-name"), *pool(3, "hostile", "\x1b]0;title\a\x1b[2J.gguf")},
		Conflicts: []wire.FleetConflict{{MachineID: host(2).MachineID, BootID: "b9", Name: "gpu9"}}}
	for i := range further {
		list.Pools = append(list.Pools, *pool(1, fmt.Sprintf("pool-%03d", i), "hf:acme/small"))
	}
	return Whole{At: now, List: list}
}

// changed is a change of the stream, some seconds later.
func changed(seconds int, e wire.FleetEvent) Change {
	return Change{At: now.Add(time.Duration(seconds) * time.Second), Event: e}
}

func ofPool(kind string, p *wire.FleetPool) wire.FleetEvent {
	e := wire.FleetEvent{Kind: kind, MachineID: p.MachineID, Node: p.Node, PoolID: p.ID}
	if kind == "pool" {
		e.Pool = p
	}
	return e
}

func ofHost(kind string, n int) wire.FleetEvent {
	h := host(n)
	e := wire.FleetEvent{Kind: kind, MachineID: h.MachineID, Node: h.Name}
	if kind == "host" {
		e.Host = &h
	}
	return e
}

// view is a model that something happened to, keys among it, one word each.
func view(size listview.Size, happened ...any) *Model {
	m := New("fleet", time.UTC)
	m.Update(size)
	listviewtest.After(m, happened...)
	return m
}

func drawn(m *Model, styles bool) string { return listviewtest.Drawn(m, m.Width, styles, styles) }

// TestScreens shows the view as a person sees it, on small and large terminals.
func TestScreens(t *testing.T) {
	small, large := listview.Size{Width: 80, Height: 24}, listview.Size{Width: 200, Height: 50}
	drains := pool(1, "llama3", "hf:acme/llama3:Q8_0")
	drains.Draining = true
	news := []any{whole(0), changed(1, ofPool("pool", drains)), changed(2, ofHost("host", 4)),
		changed(3, ofPool("pool", pool(4, "new!", "hf:acme/new"))), changed(4, ofPool("pool-gone", pool(3, "hostile", ""))),
		changed(5, ofHost("host-gone", 3))}
	lost := wire.FleetEvent{Kind: "lost", LastError: "no leader"}
	for _, c := range []struct {
		name   string
		m      *Model
		styles bool
	}{
		{"80x24", view(small, whole(0)), false},
		{"80x24-colour", view(small, whole(0), "down"), true},
		{"80x24-changes", view(small, news...), false},
		{"80x24-before-the-first-answer", view(small), false},
		{"80x24-never-an-answer", view(small, Trouble{now, "this host reads no fleet"}), false},
		{"80x24-old", view(small, whole(0), changed(1, lost), changed(13, lost)), false},
		{"80x24-help", view(small, whole(0), "?"), false},
		{"80x24-detail", view(small, whole(0), "down down enter"), false},
		{"80x24-detail-of-a-pool-that-went", view(small, whole(0), "enter", Whole{At: now}), false},
		{"80x24-by-host", view(small, whole(0), "g"), false},
		{"80x24-by-model-folded", view(small, whole(0), "g g a down down enter"), false},
		{"80x24-sorted", view(small, whole(0), "> > >"), false},
		{"80x24-filter", view(small, whole(0), "/ g p u 2"), false},
		{"80x24-filter-without-a-match", view(small, whole(0), "/ z z enter"), false},
		{"80x24-no-pools", view(small, Whole{At: now}), false},
		{"200x50", view(large, whole(250), "G"), false},
		{"60x12", view(listview.Size{Width: 60, Height: 12}, news...), false},
		{"too-small", view(listview.Size{Width: 40, Height: 10}, whole(0)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := c.m.View()
			if c.m.Fits() && len(lines) != c.m.Height {
				t.Errorf("%d lines, want %d", len(lines), c.m.Height)
			}
			golden.File(t, filepath.Join("testdata", c.name+".golden"), drawn(c.m, c.styles), *update)
		})
	}
}
