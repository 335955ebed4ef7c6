package provision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// versionTimeout bounds one question: a Python engine imports for many seconds before it prints a
// line.
const versionTimeout = 60 * time.Second

// Capture runs a command in a transient unit of its own and returns what it printed
// (systemd.Client).
type Capture interface {
	RunCapture(ctx context.Context, unit string, props []systemd.Property, limit int) ([]byte, systemd.Status, error)
}

// version asks the engine's binary for its version, once for each version of the file. If the
// answer cannot be parsed, the version is empty; a binary that cannot be executed is a failure,
// since it cannot serve either.
func (pr *Preparer) version(ctx context.Context, prepared pool.Prepared, a engine.Adapter) (string, error) {
	info, err := os.Stat(prepared.Binary)
	if err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s: %v", prepared.Binary, cause(err)), "Install the engine again.")
	}
	key := a.Kind() + "|" + identity(prepared.Binary, info)
	if v, ok := pr.Store.get(bucketVersions, key); ok {
		return v, nil
	}
	return pr.versions.ask(ctx, key, func(ctx context.Context) (string, error) {
		if v, ok := pr.Store.get(bucketVersions, key); ok { // answered since
			return v, nil
		}
		return pr.askVersion(ctx, key, prepared, a)
	})
}

// askVersion asks, in a unit of its own.
func (pr *Preparer) askVersion(ctx context.Context, key string, prepared pool.Prepared, a engine.Adapter) (string,
	error) {
	asked, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	args := append([]string{prepared.Binary}, a.VersionArgs()...)
	out, st, err := pr.Capture.RunCapture(asked, versionUnit(key), versionProperties(args, prepared.ReadOnly),
		bounds.VersionOut)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil && asked.Err() != nil, err == nil && st.Result == "timeout":
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("%s did not end within %s", strings.Join(args, " "), versionTimeout), "Run it by hand.")
	case err != nil:
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("could not query the engine's version: %v", err), "Read journalctl -u pool-managerd.")
	}
	if f := unusable(args, out, st); f != nil {
		return "", f
	}
	v := a.ParseVersion(out)
	if v == "" {
		pr.Log.Warn("could not parse the engine's version", "engine", a.Kind(), "binary", prepared.Binary, "output",
			lastLine(out), "result", st.Result)
		return "", nil
	}
	if err := pr.Store.put(bucketVersions, key, v); err != nil {
		pr.Log.Warn("could not store the engine's version", "err", err)
	}
	return v, nil
}

// glibcTooOld is what the dynamic loader prints about a program that was built on a newer system;
// it exits with 1 then.
const glibcTooOld = "version `GLIBC"

// unusable reports an engine that cannot be executed at all, not one that lacks the option: 203 is
// PID 1's "could not execute" and the rest of 200 to 245 its other steps (systemd.exec(5), "Process
// Exit Codes"), 127 the dynamic loader's "a shared library is missing".
func unusable(args []string, out []byte, st systemd.Status) *registry.Failure {
	if st.ExecMainCode != cldExited {
		if unix.Signal(st.ExecMainStatus) == unix.SIGILL && st.ExecMainCode != 0 {
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("%s was killed by SIGILL: it was built for another processor", args[0]),
				"Install a build for this machine's processor.")
		}
		return nil
	}
	switch status := st.ExecMainStatus; {
	case status == 127, status != 0 && bytes.Contains(out, []byte(glibcTooOld)):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("%s cannot be loaded: %s", args[0], lastLine(out)),
			"Install the missing library, or a build for this system. The engine sees nothing of /home, /root and "+
				"/srv but the folder of its binary.")
	case status == 126, status == 203:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("%s cannot be executed", args[0]),
			"Check its architecture, and run it by hand.")
	case status >= 200 && status <= 245:
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("PID 1 could not set up the unit that asks %s for its version (status %d of systemd.exec(5))",
				args[0], status),
			"Read the journal of the unit: journalctl -u 'pool-probe-*'.")
	}
	return nil
}

// cldExited is CLD_EXITED of waitid(2), as ExecMainCode has it.
const cldExited = 1

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	return line[:min(len(line), 200)]
}

func versionUnit(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "pool-probe-" + hex.EncodeToString(sum[:6]) + ".service"
}
