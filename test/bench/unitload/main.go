// Command unitload runs inside a test machine. It starts so many stand-in engines by hand: units
// with the very properties that pool-managerd renders, by a loop of StartTransientUnit calls, and
// waits until all are active. Beside it can be read what the manager itself adds to the start of
// many pools, and, with groups of lines left out, what each group costs PID 1.
//
// Usage: unitload N [-GROUP]...; groups are gate, filters, mounts, user and rest. It prints one
// JSON object; times are milliseconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/test/bench/guest"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

const (
	stub      = "/usr/local/bin/stubengine"
	firstPort = 26000 // below the ports that the kernel picks for connections
	patience  = 4 * time.Minute
	// batch is how many units are stopped at once: a Linux 6.18 kernel was seen to deadlock when a
	// thousand sandboxed units ended together.
	batch = 25
)

// groups are the lines that can be left out, by what they make PID 1 do.
var groups = map[string][]string{
	"gate": {"ExecStartPost", "ExecStartPostEx"},
	"filters": {"ProtectClock", "ProtectHostname", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality",
		"MemoryDenyWriteExecute", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber", "RestrictAddressFamilies",
		"ProtectKernelModules", "ProtectKernelLogs", "ProtectKernelTunables", "PrivateDevices"},
	"mounts": {"ProtectSystem", "ProtectHome", "PrivateTmp", "ProtectProc", "ProcSubset", "ProtectControlGroups", "InaccessiblePaths",
		"TemporaryFileSystem", "BindReadOnlyPaths"},
	"user": {"DynamicUser", "PrivateUsers", "StateDirectory", "StateDirectoryMode", "CacheDirectory", "CacheDirectoryMode",
		"WorkingDirectory"},
	"rest": {"IPAddressDeny", "IPAddressAllow", "DevicePolicy", "KeyringMode", "RemoveIPC", "LogExtraFields", "IPAccounting", "IOAccounting",
		"MemoryAccounting", "TasksAccounting", "TasksMax", "CapabilityBoundingSet", "AmbientCapabilities", "NoNewPrivileges"},
}

// result is what is printed.
type result struct {
	StartMS int64 `json:"start_ms"`
	StopMS  int64 `json:"stop_ms"`
}

func main() { guest.Main("unitload", run) }

func run(args []string) error {
	n, left, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, host, wait, err := connect(ctx)
	if err != nil {
		return err
	}
	defer wait()
	defer cancel()
	var units []render.Unit
	for i := range n {
		u, err := unit(i, host)
		if err != nil {
			return err
		}
		units = append(units, u)
	}
	began := time.Now()
	if err := start(ctx, client, units, left); err != nil {
		return err
	}
	started := time.Now()
	if err := stop(ctx, client, units); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result{started.Sub(began).Milliseconds(),
		time.Since(started).Milliseconds()})
}

// parse returns the number of units and the properties that are left out.
func parse(args []string) (n int, left []string, err error) {
	usage := errors.New("usage: unitload N [-gate] [-filters] [-mounts] [-user] [-rest]")
	if len(args) == 0 {
		return 0, nil, usage
	}
	if n, err = strconv.Atoi(args[0]); err != nil || n < 1 {
		return 0, nil, usage
	}
	for _, arg := range args[1:] {
		names, known := groups[strings.TrimPrefix(arg, "-")]
		if !known {
			return 0, nil, usage
		}
		left = append(left, names...)
	}
	return n, left, nil
}

// connect returns a client of PID 1 that is synchronised, and a function that waits for its end.
func connect(ctx context.Context) (*systemd.Client, render.Host, func(), error) {
	client := systemd.NewClient(systemd.Options{Pattern: "unitload-follows-none.service"})
	synced, ended := make(chan systemd.Features, 1), make(chan error, 1)
	go func() {
		ended <- client.Run(ctx, func(u systemd.Update) {
			if u.Kind == systemd.Synced {
				select {
				case synced <- u.Features:
				default:
				}
			}
		})
	}()
	select {
	case features := <-synced:
		return client, render.HostOf(features.Has), func() { <-ended }, nil
	case err := <-ended:
		return nil, render.Host{}, nil, fmt.Errorf("no connection to PID 1: %w", err)
	}
}

// unit is the n-th engine as the manager would start it.
func unit(n int, host render.Host) (render.Unit, error) {
	adapter, _ := engine.For(engine.Program)
	p := pool.Pool{
		ID: "hand" + strconv.Itoa(n), Engine: engine.Program, Replicas: 1, Devices: [][]string{{}},
		Args:         []string{"--port", "{port}"},
		Provisioning: pool.Provisioning{Mode: pool.ModeBinary, Binary: stub},
		Health:       pool.Health{StartTimeout: 5 * time.Minute},
		Restart:      pool.Restart{Initial: time.Second, Factor: 2, Max: time.Minute, BreakerFailures: 5},
	}
	u, err := render.Render(render.Input{Pool: p, Prepared: pool.Prepared{Binary: stub, Version: "unknown"},
		Port:    firstPort + n,
		Adapter: adapter, Host: host})
	u.Name = fmt.Sprintf("test-hand@%d.service", n) // the manager would stop a pool-engine@ that it has no pool for
	return u, err
}

// start asks for all units, one call after the other, and waits for their jobs.
func start(ctx context.Context, client *systemd.Client, units []render.Unit, left []string) error {
	var jobs []*systemd.Job
	for _, u := range units {
		props := slices.DeleteFunc(u.Properties(), func(p systemd.Property) bool {
			return slices.Contains(left, p.Name)
		})
		job, err := client.StartTransient(ctx, u.Name, props)
		if err != nil {
			return err
		}
		jobs = append(jobs, job)
	}
	for _, job := range jobs {
		if err := job.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func stop(ctx context.Context, client *systemd.Client, units []render.Unit) error {
	for some := range slices.Chunk(units, batch) {
		var jobs []*systemd.Job
		for _, u := range some {
			job, err := client.Stop(ctx, u.Name)
			if err != nil {
				return err
			}
			jobs = append(jobs, job)
		}
		for i, job := range jobs {
			if err := job.Wait(ctx); err != nil {
				return err
			}
			if err := client.Unref(ctx, some[i].Name); err != nil {
				return err
			}
		}
	}
	return nil
}
