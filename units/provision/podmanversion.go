package provision

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// The oldest podman that maps an engine's user ids for a directory (--rootfs, --userns=auto), as
// far as was tried. With 4.3, as Debian 12 has it, crun ends with "setgroups: Invalid argument";
// the versions between were not tried.
const podmanMajor, podmanMinor = 5, 4

// podmanForm is what podman --version prints.
var podmanForm = regexp.MustCompile(`^podman version (([0-9]{1,4})\.([0-9]{1,4})[^\s]{0,32})\s*$`)

// tooOld reports a podman that could not run an engine. One whose version is unknown is not
// refused: its first start shows what it can.
func (pr *Preparer) tooOld(ctx context.Context, program string) (*registry.Failure, error) {
	answer, err := pr.podmanVersion(ctx, program)
	m := podmanForm.FindStringSubmatch(answer)
	if err != nil || m == nil {
		return nil, err
	}
	major, _ := strconv.Atoi(m[2]) // at most four digits
	minor, _ := strconv.Atoi(m[3])
	if major > podmanMajor || major == podmanMajor && minor >= podmanMinor {
		return nil, nil
	}
	return registry.Fail(registry.CodeProvisionFailed,
		fmt.Sprintf("podman %s cannot give an engine user ids of its own in an image's directory; %d.%d or newer can",
			m[1], podmanMajor, podmanMinor),
		fmt.Sprintf("Install podman %d.%d or newer, as Debian 13 has it: apt-cache policy podman", podmanMajor,
			podmanMinor)+instead), nil
}

// podmanVersion is what podman prints for its version, once for each version of the file; empty:
// unknown.
func (pr *Preparer) podmanVersion(ctx context.Context, program string) (string, error) {
	info, err := os.Stat(program)
	if err != nil {
		return "", nil // its start shows what is wrong
	}
	key := "podman|" + identity(program, info)
	return pr.versions.ask(ctx, key, func(ctx context.Context) (string, error) {
		if v, ok := pr.Store.get(bucketVersions, key); ok {
			return v, nil
		}
		asked, cancel := context.WithTimeout(ctx, scriptTimeout)
		defer cancel()
		args := []string{program, "--version"}
		out, st, err := pr.Capture.RunCapture(asked, versionUnit(key),
			versionProperties(pr.Gate, args, pool.Prepared{}, pool.Pool{}), bounds.VersionOut)
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		v := lastLine(out)
		if err != nil || !podmanForm.MatchString(v) {
			pr.Log.Warn("podman's version is unknown", "binary", program, "output", v, "result", st.Result, "err", err)
			return "", nil
		}
		if err := pr.Store.put(bucketVersions, key, v); err != nil {
			pr.Log.Warn("could not store podman's version", "err", err)
		}
		return v, nil
	})
}
