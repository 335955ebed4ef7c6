package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// unknownVersion is the version of an engine that does not tell it.
const unknownVersion = "unknown"

// versionTimeout bounds one question: a Python engine imports for many seconds before it prints a line.
const versionTimeout = 60 * time.Second

// versionOutput is how much of the answer is read, in bytes.
const versionOutput = 16 << 10

// Capture runs a command in a transient unit of its own and returns what it printed (systemd.Client).
type Capture interface {
	RunCapture(ctx context.Context, unit string, props []systemd.Property, limit int) ([]byte, systemd.Status, error)
}

// version asks the engine's binary for its version, once for each version of the file. An answer that is not
// understood is "unknown"; a binary that cannot be executed is a failure, since it cannot serve either.
func (pr *Preparer) version(ctx context.Context, prepared pool.Prepared, a engine.Adapter) (string, error) {
	info, err := os.Stat(prepared.Binary)
	if err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s: %v", prepared.Binary, err), "Install the engine again.")
	}
	key := a.Kind() + "|" + identity(prepared.Binary, info)
	if v, ok := pr.Store.get(bucketVersions, key); ok {
		return v, nil
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	args := append([]string{prepared.Binary}, a.VersionArgs()...)
	out, st, err := pr.Capture.RunCapture(ctx, versionUnit(key), versionProperties(args, prepared.ReadOnly), versionOutput)
	if ctx.Err() != nil && err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("%s gave no answer within %s", strings.Join(args, " "), versionTimeout), "Run it by hand.")
	}
	if err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("the engine's version could not be asked: %v", err), "Read journalctl -u pool-managerd.")
	}
	if f := unusable(args, out, st); f != nil {
		return "", f
	}
	v := a.ParseVersion(out)
	if v == "" {
		pr.Log.Warn("the engine's version was not understood", "engine", a.Kind(), "output", lastLine(out))
		return unknownVersion, nil
	}
	if err := pr.Store.put(bucketVersions, key, v); err != nil {
		pr.Log.Warn("the engine's version could not be remembered", "err", err)
	}
	return v, nil
}

// unusable tells an engine that cannot be executed at all from one that has no such option: 203 is PID 1's
// "could not execute" (systemd.exec(5)), 127 the dynamic loader's "a shared library is missing".
func unusable(args []string, out []byte, st systemd.Status) *registry.Failure {
	switch st.ExecMainStatus {
	case 127:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("%s cannot be loaded: %s", args[0], lastLine(out)),
			"Install the missing library. The engine sees nothing of /home, /root and /srv but the folder of its binary.")
	case 126, 203:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("%s cannot be executed", args[0]), "Check its architecture, and run it by hand.")
	}
	return nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	return line[:min(len(line), 200)]
}

func versionUnit(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "pool-probe-" + hex.EncodeToString(sum[:6]) + ".service"
}

// versionProperties fence the question like an engine, and tighter: no network, no state, little memory.
func versionProperties(args, readOnly []string) []systemd.Property {
	props := []systemd.Property{
		{Name: "Description", Value: "version of " + args[0]},
		{Name: "Slice", Value: pool.Slice},
		{Name: "ExecStartEx", Value: []systemd.ExecCommand{{Path: args[0], Args: args, Flags: []string{"no-env-expand"}}}},
		{Name: "DynamicUser", Value: true},
		{Name: "NoNewPrivileges", Value: true},
		{Name: "CapabilityBoundingSet", Value: uint64(0)},
		{Name: "ProtectSystem", Value: "strict"},
		{Name: "ProtectHome", Value: "tmpfs"},
		{Name: "PrivateTmp", Value: true},
		{Name: "PrivateDevices", Value: true},
		{Name: "PrivateNetwork", Value: true},
		{Name: "PrivateUsers", Value: true},
		{Name: "ProtectKernelTunables", Value: true},
		{Name: "ProtectKernelModules", Value: true},
		{Name: "ProtectControlGroups", Value: true},
		{Name: "RestrictNamespaces", Value: uint64(0)},
		{Name: "RestrictSUIDSGID", Value: true},
		{Name: "LockPersonality", Value: true},
		{Name: "SystemCallArchitectures", Value: []string{"native"}},
		{Name: "SystemCallFilter", Value: systemd.SetFilter{Allow: true, Members: []string{"@system-service"}}},
		{Name: "SystemCallErrorNumber", Value: int32(1)},
		{Name: "MemoryMax", Value: uint64(4 << 30)},
		{Name: "TasksMax", Value: uint64(512)},
		{Name: "Environment", Value: []string{"HOME=/tmp", "XDG_CACHE_HOME=/tmp", "CUDA_VISIBLE_DEVICES="}},
	}
	// ProtectHome=tmpfs makes /root with a mode that the dynamic user cannot pass.
	for _, tree := range []string{"/srv", "/mnt", "/media", "/root"} {
		if isDir(tree) {
			props = append(props, systemd.Property{Name: "TemporaryFileSystem", Value: []systemd.PathOptions{{Path: tree, Options: "ro"}}})
		}
	}
	for _, p := range slices.Sorted(slices.Values(readOnly)) {
		props = append(props, systemd.Property{Name: "BindReadOnlyPaths", Value: []systemd.BindMount{{Source: p, Destination: p}}})
	}
	return props
}
