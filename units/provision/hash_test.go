package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestHashFile: the digest is that of the whole file, whatever its length is beside the chunks.
func TestHashFile(t *testing.T) {
	s := &Stager{Log: slog.New(slog.DiscardHandler)}
	for _, size := range []int{0, 1, hashChunk - 1, hashChunk, hashChunk + 1, 3*hashAhead*hashChunk + 7} {
		content := make([]byte, size)
		_, _ = rand.Read(content)
		path := filepath.Join(t.TempDir(), "m")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		want := sha256.Sum256(content)
		if got, err := s.hashFile(t.Context(), path, int64(size)); err != nil || got != hex.EncodeToString(want[:]) {
			t.Errorf("%d bytes: %s %v", size, got, err)
		}
	}
}

func TestHashFileThatFails(t *testing.T) {
	s := &Stager{Log: slog.New(slog.DiscardHandler)}
	t.Run("a_folder_is_no_file", func(t *testing.T) {
		if sum, err := s.hashFile(t.Context(), t.TempDir(), 1); err == nil || sum != "" {
			t.Errorf("%q %v", sum, err)
		}
	})
	t.Run("nobody_waits_for_it_any_longer", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "m")
		if err := os.WriteFile(path, make([]byte, 64<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if sum, err := s.hashFile(ctx, path, 64<<20); !errors.Is(err, context.Canceled) || sum != "" {
			t.Errorf("%q %v", sum, err)
		}
	})
}

// BenchmarkDigest hashes a file that is in the page cache, and has openssl do the same in turn. The
// ratio is our time for each of openssl's.
func BenchmarkDigest(b *testing.B) {
	const size = 512 << 20
	path := filepath.Join(b.TempDir(), "m")
	content := make([]byte, size)
	_, _ = rand.Read(content)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	s := &Stager{Log: slog.New(slog.DiscardHandler)}
	var mine, theirs time.Duration
	b.SetBytes(size)
	for b.Loop() {
		began := time.Now()
		ours, err := s.hashFile(b.Context(), path, size)
		if err != nil {
			b.Fatal(err)
		}
		turn := time.Now()
		out, err := exec.CommandContext(b.Context(), "openssl", "dgst", "-sha256", path).Output()
		if err != nil || !bytes.Contains(out, []byte(ours)) {
			b.Fatalf("%s %v, we say %s", out, err, ours)
		}
		mine, theirs = mine+turn.Sub(began), theirs+time.Since(turn)
	}
	b.ReportMetric(mine.Seconds()/theirs.Seconds(), "ratio")
	b.ReportMetric(theirs.Seconds()/float64(b.N), "s/openssl")
}
