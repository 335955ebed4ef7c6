package top

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview/listviewtest"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the golden files")

var now = registrytest.Start().Add(time.Minute)

// picture is that of a host with one pool of each kind, and further ones.
func picture(further ...registry.Pool) Picture {
	r := registry.New()
	for _, p := range append(registrytest.OnGPUs(registrytest.Pools()), further...) {
		r.Put(p)
	}
	devices := registrytest.Devices()
	r.SetDevices(devices)
	r.SetProblems(registrytest.Problems())
	used := func(unit string) wire.Memory {
		if !strings.Contains(unit, ".r0.") {
			return wire.Memory{}
		}
		return wire.Memory{Bytes: new(uint64(5 << 29)), Pressure: new(0.125)}
	}
	list := wire.ListOf(r.Snapshot())
	for i := range list.Pools {
		if list.Pools[i].Ready {
			list.Pools[i].PerfTokensPerS, list.Pools[i].FirstTokenMS = new(41.75), new(183.0)
		}
	}
	return Picture{At: now, Pools: list, Usage: wire.UsageOf(r.Snapshot(), used),
		Devices: wire.DevicesOf(&devices, now)}
}

// many are further pools, as on a large host.
func many(n int) []registry.Pool {
	var out []registry.Pool
	for i := range n {
		p := registrytest.Llama()
		p.ID = fmt.Sprintf("pool-%03d", i)
		out = append(out, p)
	}
	return out
}

func events() Events {
	at := func(s int) int64 { return registrytest.Start().Add(time.Duration(s) * time.Second).UnixMilli() }
	return Events{
		{AtMS: at(1), Kind: "ready", PoolID: "gemma", ReplicaID: "r0", Ready: new(true), Cause: "the engine answers"},
		{AtMS: at(9), Kind: "crash", PoolID: "llama3-8b", ReplicaID: "r1", Ready: new(false),
			Cause: "exited with status 1", LastError: new("ENGINE_CRASHED: exited with status 1")},
		{AtMS: at(40), Kind: "device", Device: registrytest.Degraded, Health: "degraded", Cause: "Xid 63"},
		{AtMS: at(50), Kind: "lease", PoolID: "llama3-8b", Cause: "a lease ended: \x1b]0;hostile\a its engine crashed"},
	}
}

// view is a model that something happened to, keys among it, one word each.
func view(size listview.Size, happened ...any) *Model {
	m := New("host1", time.UTC)
	m.Update(size)
	listviewtest.After(m, happened...)
	return m
}

func drawn(m *Model, styles, colour bool) string {
	return listviewtest.Drawn(m, m.Width, styles, colour)
}

// TestScreens shows the view as a person sees it, on small and large terminals.
func TestScreens(t *testing.T) {
	small, large := listview.Size{Width: 80, Height: 24}, listview.Size{Width: 200, Height: 50}
	old := Trouble{At: now.Add(12 * time.Second), Text: "nothing listens on /run/pool-managerd/api.sock"}
	missed := Missed{new(int64(7))}
	for _, c := range []struct {
		name           string
		m              *Model
		styles, colour bool
	}{
		{"80x24", view(small, picture(), events()), false, false},
		{"80x24-monochrome", view(small, picture(), events(), "down"), true, false},
		{"80x24-colour", view(small, picture(), events(), "down"), true, true},
		{"80x24-before-the-first-answer", view(small), false, false},
		{"80x24-never-an-answer", view(small, Trouble{At: now, Text: "there is no socket /run/x"}), false, false},
		{"80x24-old", view(small, picture(), events(), Trouble{At: now}, old), false, false},
		{"80x24-missed", view(small, picture(), events(), missed, Missed{}), false, false},
		{"80x24-help", view(small, picture(), "?"), false, false},
		{"80x24-detail", view(small, picture(), "down enter", Log{Pool: "llama3-8b",
			Lines: []string{"loading", "\x1b[31mred\x1b[0m", "all slots are idle"}}), false, false},
		{"80x24-detail-without-a-log", view(small, picture(), "down enter", Log{Pool: "llama3-8b",
			End: "no permission to read the journal"}), false, false},
		{"80x24-detail-of-a-removed-pool", view(small, picture(many(1)...), "end up up enter", picture()), false, false},
		{"80x24-unfolded", view(small, picture(), "down right"), false, false},
		{"80x24-groups", view(small, picture(), "g g"), false, false},
		{"80x24-groups-folded", view(small, picture(), "g left down left"), false, false},
		{"80x24-question", view(small, picture(), "D"), false, false},
		{"80x24-filter", view(small, picture(), "/ l l a"), false, false},
		{"80x24-filter-without-a-match", view(small, picture(), "/ z z enter"), false, false},
		{"80x24-no-pools", view(small, Picture{At: now}), false, false},
		{"200x50", view(large, picture(many(250)...), events(), "> > > > > > > > > G"), false, false},
		{"100x30", view(listview.Size{Width: 100, Height: 30}, picture(), events()), false, false},
		{"60x12", view(listview.Size{Width: 60, Height: 12}, picture(), events()), false, false},
		{"too-small", view(listview.Size{Width: 40, Height: 10}, picture()), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := c.m.View()
			if c.m.Fits() && len(lines) != c.m.Height {
				t.Errorf("%d lines, want %d", len(lines), c.m.Height)
			}
			golden.File(t, filepath.Join("testdata", c.name+".golden"), drawn(c.m, c.styles, c.colour), *update)
		})
	}
}
