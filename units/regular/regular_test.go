package regular_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/regular"
)

// TestOpen: whatever another user puts into the place of a file, the call returns at once.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("file"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(syscall.Mkfifo(at("pipe"), 0o666), syscall.Mkfifo(at("written"), 0o666),
		os.Symlink("file", at("link")), os.Symlink("pipe", at("link_to_pipe")), os.Symlink("/dev/zero", at("zero")),
		os.Symlink("nothing", at("dangling"))); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(at("written"), os.O_RDWR, 0) // a pipe whose writer writes nothing
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, name := range []string{"file", "link"} {
		t.Run(name, func(t *testing.T) {
			f, info, err := regular.Open(at(name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if text, err := io.ReadAll(f); err != nil || string(text) != "content" || info.Size() != 7 {
				t.Errorf("%q of %d bytes (%v)", text, info.Size(), err)
			}
		})
	}
	for name, want := range map[string]error{"pipe": regular.ErrOther, "written": regular.ErrOther,
		"link_to_pipe": regular.ErrOther, "zero": regular.ErrOther,
		".": regular.ErrOther, "socket": syscall.ENXIO, "dangling": os.ErrNotExist} {
		t.Run("not_"+name, func(t *testing.T) {
			if f, _, err := regular.Open(at(name)); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
				f.Close()
			}
		})
	}
}
