package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// settleTime is how old a file's change time must be before the file is read. The kernel takes that
// time from a clock that ticks every 1 to 10 ms (ktime_get_coarse_real_ts64, CONFIG_HZ), so that of
// two changes within one tick the second would not show.
const settleTime = 50 * time.Millisecond

// progressEvery is how often a long hash is mentioned in the log.
const progressEvery = 30 * time.Second

// verify compares the digest if the pool sets one, and otherwise logs once for each file that it
// does not.
func (s *Stager) verify(ctx context.Context, p pool.Pool, m model, staged *pool.Staged) error {
	if p.ModelDigest == "" {
		id := identity(staged.Path, m.files[0].info)
		if _, told := s.advised.LoadOrStore(id, true); !told {
			s.Log.Info("using the model unverified: the pool sets no model_digest", "pool_id", p.ID, "engine",
				p.Engine, "model_id", string(p.Model))
			s.count(true, "advisory", p.Engine)
		}
		return nil
	}
	digest, err := s.digest(ctx, m)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s cannot be read to its end: %v",
			staged.Path, err), "See whether the disk has errors: journalctl -k -p err")
	}
	if digest != p.ModelDigest {
		s.count(false, "mismatch", p.Engine)
		hint := "Download the file again, or correct model_digest: sha256sum " + shell.Quote(staged.Path)
		if !m.single {
			hint = "Download the files again, or correct model_digest; the digest of several files is that of the " +
				"list that sha256sum prints for them, sorted by name: " + sumOfList(m)
		}
		return registry.Fail(registry.CodeDigestMismatch,
			fmt.Sprintf("model %s has the digest %s; the pool requires %s", staged.Path, digest, p.ModelDigest), hint)
	}
	s.count(true, "match", p.Engine)
	staged.Digest, staged.Verified = digest, true
	return nil
}

func (s *Stager) count(pass bool, reason, engine string) {
	if s.Verified != nil {
		s.Verified(pass, reason, engine)
	}
}

// digest is the SHA-256 of a single file. Of several, it is that of the list which sha256sum prints
// for them, with paths relative to the model's folder, sorted by name in the C locale. A person
// computes it there with
//
//	find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum
func (s *Stager) digest(ctx context.Context, m model) (string, error) {
	if m.single {
		sum, err := s.fileDigest(ctx, m.files[0])
		return "sha256:" + sum, err
	}
	files := slices.Clone(m.files)
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	list := sha256.New()
	for _, f := range files {
		sum, err := s.fileDigest(ctx, f)
		if err != nil {
			return "", err
		}
		_, _ = io.WriteString(list, checksumLine(sum, f.name)) // a hash never fails
	}
	return "sha256:" + hex.EncodeToString(list.Sum(nil)), nil
}

// checksumLine is a line of sha256sum, which marks a name that it had to escape with a backslash
// before the line (GNU coreutils, "cksum output modes").
func checksumLine(sum, name string) string {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	if escaped != name {
		return `\` + sum + "  " + escaped + "\n"
	}
	return sum + "  " + name + "\n"
}

// fileDigest returns the remembered digest of this version of a file, or reads it.
func (s *Stager) fileDigest(ctx context.Context, f file) (string, error) {
	leave, err := s.hashes.enter(ctx, f.path)
	if err != nil {
		return "", err
	}
	defer leave()
	key := identity(f.path, f.info)
	if sum, ok := s.Store.get(bucketDigests, key); ok {
		return sum, nil
	}
	if err := settled(ctx, f.info); err != nil {
		return "", err
	}
	s.Log.Info("verifying the model's digest", "model_file", f.path, "size_bytes", f.info.Size())
	sum, err := s.hashFile(ctx, f.path, f.info.Size())
	if err != nil {
		return "", err
	}
	// A file that was written to meanwhile has no digest yet.
	if now, err := os.Stat(f.path); err != nil || identity(f.path, now) != key {
		return "", fmt.Errorf("%s changed while it was read", f.path)
	}
	if err := s.Store.put(bucketDigests, key, sum); err != nil {
		s.Log.Warn("could not store the digest; it will be computed again", "model_file", f.path, "err", err)
	}
	return sum, nil
}

// sumOfList is the command that prints the digest of a model in several files.
func sumOfList(m model) string {
	if of := bring.PartName.FindStringSubmatch(filepath.Base(m.path)); of != nil {
		return "cd " + shell.Quote(filepath.Dir(m.path)) + " && sha256sum " + shell.Quote(of[1]) + "-*-of-" +
			shell.Quote(of[3]+of[4]) + " | sha256sum"
	}
	return "cd " + shell.Quote(m.path) + ` && find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' ` +
		"sha256sum | sha256sum"
}
