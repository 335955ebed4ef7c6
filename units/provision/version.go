package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Capture runs a command in a transient unit of its own and returns what it printed
// (systemd.Client).
type Capture interface {
	RunCapture(ctx context.Context, unit string, props []systemd.Property, limit int) ([]byte, systemd.Status, error)
}

// version asks the engine's binary for its version, once for each version of the file and each
// environment. If there is no answer or it cannot be parsed, a warning is logged and the version is
// empty: the unit that asks differs from the engine's, for which an administrator may have written
// drop-ins. Only a file that cannot be executed at all is a failure.
func (pr *Preparer) version(ctx context.Context, prepared pool.Prepared, p pool.Pool, a engine.Adapter,
	foreign string) (string, error) {
	file, err := identityOf(prepared)
	if err != nil {
		return "", err
	}
	key := a.Kind() + "|" + file + environmentKey(variables(prepared, p))
	if v, ok := pr.Store.get(bucketVersions, key); ok {
		return v, nil
	}
	if pr.silent.has(key, time.Now()) {
		return "", nil // a warning was logged
	}
	return pr.versions.ask(ctx, key, func(ctx context.Context) (string, error) {
		if v, ok := pr.Store.get(bucketVersions, key); ok { // answered since
			return v, nil
		}
		return pr.askVersion(ctx, key, prepared, p, a, foreign)
	})
}

// identityOf is what changes with the binary's content.
func identityOf(prepared pool.Prepared) (string, error) {
	if prepared.Image != nil {
		return prepared.Image.Digest + " " + prepared.Binary, nil
	}
	info, err := os.Stat(prepared.Binary)
	if err != nil {
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s: %v", prepared.Binary, bring.Cause(err)),
			"Install the engine again: namei -l "+shell.Quote(prepared.Binary))
	}
	return identity(prepared.Binary, info), nil
}

// variables are those of a program, over which the pool's own win.
func variables(prepared pool.Prepared, p pool.Pool) map[string]string {
	all := make(map[string]string)
	maps.Copy(all, prepared.Env)
	maps.Copy(all, p.Variables())
	return all
}

// environmentKey distinguishes the answers that a binary gives under different variables, by which
// it may load other libraries. It does not contain their values, which may be secrets.
func environmentKey(env map[string]string) string {
	if len(env) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(sum, "%s=%s\x00", name, env[name])
	}
	return "|" + hex.EncodeToString(sum.Sum(nil)[:8])
}

// askVersion asks, in a unit of its own.
func (pr *Preparer) askVersion(ctx context.Context, key string, prepared pool.Prepared, p pool.Pool,
	a engine.Adapter, foreign string) (string, error) {
	timeout := scriptTimeout // in an image, whose files are not in memory yet
	if prepared.Image == nil {
		timeout = questionTimeout(prepared.Binary)
	}
	asked, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	args := append([]string{prepared.Binary}, a.VersionArgs(prepared.Binary)...)
	out, st, err := pr.Capture.RunCapture(asked, versionUnit(key),
		versionProperties(pr.Gate, args, prepared, p), bounds.VersionOut)
	unknown := func(why string) (string, error) {
		pr.Log.Warn("the engine's version is unknown: "+why, "pool_id", p.ID, "engine", a.Kind(),
			"binary", prepared.Binary, "output", lastLine(out), "result", st.Result)
		return "", nil
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil && asked.Err() != nil, err == nil && st.Result == "timeout":
		pr.silent.add(key, time.Now())
		return unknown(fmt.Sprintf("%s did not end within %s; it is asked again after %s", strings.Join(args, " "),
			timeout, askAgain))
	case err != nil:
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("could not query the engine's version: %v", err), "See why: journalctl -b -u pool-managerd")
	}
	if f := unusable(args[0], foreign, st); f != nil {
		return "", f
	}
	v := a.ParseVersion(out)
	if v == "" {
		return unknown(unanswered(args, st))
	}
	if err := pr.Store.put(bucketVersions, key, v); err != nil {
		pr.Log.Warn("could not store the engine's version", "pool_id", p.ID, "err", err)
	}
	return v, nil
}

// unusable reports a file that PID 1 or the processor cannot execute, whatever its libraries and
// its environment: 203 is PID 1's "could not execute" (systemd.exec(5), "Process Exit Codes"). The
// mode, the architecture and the loader of the binary were checked, so that what is left is the
// mount: the manager cannot look at its options, since its own sandbox changes them.
func unusable(binary, foreign string, st systemd.Status) *registry.Failure {
	switch {
	case st.ExecMainCode == cldExited && st.ExecMainStatus == statusExec && foreign != "":
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("%s cannot be executed: it was built for %s, and this host is %s", binary, foreign,
				runtime.GOARCH),
			"Install a build for this architecture: file "+shell.Quote(binary))
	case st.ExecMainCode == cldExited && st.ExecMainStatus == statusExec && hasCapabilities(binary):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("%s cannot be executed: it has capabilities of its own (setcap), which no engine may have",
				binary),
			"Remove them: setcap -r "+shell.Quote(binary)+". [limits] memlock, nice and cpus do what they are set for.")
	case st.ExecMainCode == cldExited && st.ExecMainStatus == statusExec:
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("%s cannot be executed: permission denied; is %s on a file system that is mounted noexec?",
				binary, filepath.Dir(binary)),
			"Mount it with exec, or install the engine elsewhere. The mount and its options: findmnt --target "+
				shell.Quote(binary))
	case st.ExecMainCode > cldExited && unix.Signal(st.ExecMainStatus) == unix.SIGILL:
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("%s was killed by SIGILL: it was built for another processor", binary),
			"Install a build for this machine's processor: lscpu")
	}
	return nil
}

// hasCapabilities reports whether a file asks for capabilities when it is executed: where its mount
// is not nosuid, as with SELinux, the kernel refuses that to a process that may not have them
// (capabilities(7)).
func hasCapabilities(file string) bool {
	n, err := unix.Getxattr(file, "security.capability", nil)
	return err == nil && n > 0
}

// unanswered reports why there is no version: 127 is the dynamic loader's "a shared library is
// missing", and the rest of 200 to 245 are steps of PID 1.
func unanswered(args []string, st systemd.Status) string {
	status := st.ExecMainStatus
	switch {
	case st.ExecMainCode > cldExited:
		return fmt.Sprintf("%s was ended by signal %d", args[0], status)
	case status == 127:
		return args[0] + " cannot be loaded"
	case status >= 200 && status <= 245:
		return fmt.Sprintf("PID 1 could not set up the unit that asks %s (status %d of systemd.exec(5))", args[0],
			status)
	case status != 0:
		return fmt.Sprintf("%s exited with status %d", strings.Join(args, " "), status)
	}
	return "could not parse what it printed"
}

const (
	cldExited  = 1   // CLD_EXITED of waitid(2), as ExecMainCode has it
	statusExec = 203 // EXIT_EXEC of systemd.exec(5)
)

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	line := strings.TrimSpace(lines[len(lines)-1])
	return line[:min(len(line), 200)]
}

func versionUnit(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "pool-probe-" + hex.EncodeToString(sum[:6]) + ".service"
}
