package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/disk"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// engineTrees hold the directories of all engines, behind the links that DynamicUser= makes.
var engineTrees = []string{"/var/lib/private/pool-engine", "/var/cache/private/pool-engine"}

// Bounds of one counting.
const (
	diskTimeout = time.Minute
	diskMemory  = 256 << 20
	diskTasks   = 32
	diskOutput  = 1 << 20 // some 50 bytes for each directory
)

// diskUnit counts what engines have on the disk.
const diskUnit = "pool-disk.service"

// counter counts what engines have on the disk. This program has no capabilities, and an engine's
// directories belong to the engine: PID 1 runs a program that may look into them, and do nothing
// else.
type counter struct {
	client capturer
	gate   string // the program; empty: where the package installs it
}

// capturer is the part of systemd.Client that it needs.
type capturer interface {
	RunCapture(ctx context.Context, unit string, props []systemd.Property, limit int) ([]byte, systemd.Status, error)
}

// count counts once.
func (c counter) count(ctx context.Context) (map[string]disk.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	out, st, err := c.client.RunCapture(ctx, diskUnit, c.properties(), diskOutput)
	if err != nil {
		return nil, err
	}
	of, err := disk.Parse(string(out))
	if err != nil {
		return nil, fmt.Errorf("%s ended with status %d: %w", diskUnit, st.ExecMainStatus, err)
	}
	return of, nil
}

func (c counter) properties() []systemd.Property {
	gate := c.gate
	if gate == "" {
		gate = render.GatePath
	}
	h := systemd.Helper{
		Description: "Disk space of inference engines", Argv: append([]string{gate, "disk"}, engineTrees...),
		Memory: diskMemory, Tasks: diskTasks, Home: "yes", Needs: systemd.Needs{Search: true},
	}
	const idle, notice = 3, 5
	return append(h.Properties(),
		systemd.Property{Name: "Nice", Value: int32(19)},
		systemd.Property{Name: "IOSchedulingClass", Value: int32(idle)},
		// PID 1 would log its start and its end each time.
		systemd.Property{Name: "LogLevelMax", Value: int32(notice)})
}

// engineSpaces returns the space of the file systems of the engines' directories, that of the state
// directories first. Before the first engine there are only their parents.
func engineSpaces() ([]disk.Space, error) {
	var spaces []disk.Space
	for _, tree := range engineTrees {
		s, err := spaceAbove(tree)
		if err != nil {
			return nil, fmt.Errorf("free space of %s: %w", tree, err)
		}
		spaces = append(spaces, s)
	}
	return spaces, nil
}

func spaceAbove(path string) (disk.Space, error) {
	for {
		s, err := disk.SpaceOf(path)
		if err != unix.ENOENT || path == "/" {
			return s, err
		}
		path = filepath.Dir(path)
	}
}

// stateBytes is the size of the file system with the state directories; 0: unknown.
func stateBytes() uint64 {
	s, err := spaceAbove(engineTrees[0])
	if err != nil {
		return 0
	}
	return s.Bytes
}

// hasEngines reports whether any engine has a unit here.
func (d *daemon) hasEngines() bool {
	for _, p := range d.registry.Snapshot().Pools {
		for i := range p.Replicas {
			if p.Replicas[i].Unit != "" {
				return true
			}
		}
	}
	return false
}

// watchDisk counts what engines have on the disk until ctx ends.
func (d *daemon) watchDisk(ctx context.Context) {
	w := &disk.Watch{
		Engines: d.hasEngines, Urgent: d.super.DiskUrgent, Space: engineSpaces,
		Count: counter{d.client, d.o.gate}.count, Deliver: d.super.DiskCounted, Log: d.log,
	}
	w.Run(ctx)
}
