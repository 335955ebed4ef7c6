package aside

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestMove(t *testing.T) {
	at := time.Date(2026, 11, 26, 3, 4, 5, 678e6, time.FixedZone("", 3600))
	path := filepath.Join(t.TempDir(), "leases.db")
	for name, make := range map[string]func() error{
		"a_file":      func() error { return os.WriteFile(path, []byte("x"), 0o600) },
		"a_directory": func() error { return os.MkdirAll(filepath.Join(path, "sub"), 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := make(); err != nil {
				t.Fatal(err)
			}
			to, err := Move(path, at)
			if err != nil || to != path+".damaged-20261126T020405.678Z" {
				t.Fatalf("moved to %q, %v", to, err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
			if err := make(); err != nil {
				t.Fatal(err)
			}
			if to, err := Move(path, at); err == nil || to != "" {
				t.Errorf("the first one was replaced by %q, %v", to, err)
			}
			if err := errors.Join(os.RemoveAll(path), os.RemoveAll(to)); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		if to, err := Move(path, at); !errors.Is(err, os.ErrNotExist) || to != "" {
			t.Errorf("moved to %q, %v", to, err)
		}
	})
}

func TestRefused(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.ENOSPC: true, syscall.EROFS: true, syscall.ENOTDIR: true,
		syscall.EISDIR: false, syscall.EACCES: false, syscall.EIO: false, errors.New("checksum"): false,
	} {
		if got := Refused(fmt.Errorf("open: %w", err)); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}
