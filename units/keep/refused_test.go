package keep

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestKeptOnARefusingDisk restarts the manager on a disk that can no longer be written: that must
// not start a drained pool.
func TestKeptOnARefusingDisk(t *testing.T) {
	for name, c := range map[string]struct {
		refuse, allow func(t *testing.T, dir string)
		reason        syscall.Errno
	}{
		"full": {
			func(t *testing.T, dir string) { fillDisk(t, dir) },
			func(t *testing.T, dir string) { remount(t, dir, 0, "size=2m") }, syscall.ENOSPC,
		},
		"read_only": {
			func(t *testing.T, dir string) { remount(t, dir, syscall.MS_RDONLY, "") },
			func(t *testing.T, dir string) { remount(t, dir, 0, "") }, syscall.EROFS,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t)
			path := filepath.Join(dir, "intents.db")
			s := reopened(t, path)
			if err := s.Put("tiny", Intent{Drain: &Drain{By: "first"}}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			c.refuse(t, dir)
			s, reports := opened(path)
			defer s.Close()
			var refused error
			for _, r := range reports() {
				if refused = r.Refused; r.Damage != nil {
					t.Fatalf("Open: %+v", r)
				}
			}
			if refused != nil && !errors.Is(refused, c.reason) || c.reason == syscall.EROFS && refused == nil {
				t.Errorf("refused: %v", refused)
			}
			if !s.Readable() {
				t.Error("what was written before is not readable")
			}
			if list, err := s.Intents(); err != nil || list["tiny"].Drain == nil {
				t.Errorf("what was asked before is forgotten: %v, %v", list, err)
			}
			var f *registry.Failure
			if err := s.Put("large", largeIntent()); !errors.As(err, &f) || f.Code != registry.CodeStateNotSaved ||
				!strings.Contains(f.Hint, dir) {
				t.Errorf("Put = %v", err)
			}
			if list, err := s.Intents(); err != nil || list["tiny"].Drain == nil {
				t.Errorf("what was asked before is forgotten by a write: %v, %v", list, err)
			}
			c.allow(t, dir)
			if err := s.Put("large", largeIntent()); err != nil {
				t.Errorf("once the disk takes writes again: %v", err)
			}
			if list, err := s.Intents(); err != nil || len(list) != 2 {
				t.Errorf("at last: %d intents, %v", len(list), err)
			}
		})
	}
}

func remount(t *testing.T, dir string, flags uintptr, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|flags, options); err != nil {
		t.Fatal(err)
	}
}
