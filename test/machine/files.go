package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file in the machine, owned by root, with exactly these permissions. It makes
// missing directories and replaces the file in one step, so that no process in the machine sees
// half of it.
func (m *Machine) WriteFile(ctx context.Context, name string, content []byte, mode fs.FileMode) error {
	return m.writeFrom(ctx, name, bytes.NewReader(content), mode)
}

// writeFrom is WriteFile from a stream.
func (m *Machine) writeFrom(ctx context.Context, name string, content io.Reader, mode fs.FileMode) error {
	const script = `mkdir -p "${1%/*}/" && cat >"$1.new~" && chmod "$2" "$1.new~" && mv -fT "$1.new~" "$1"`
	r := m.RunCommand(ctx, Command{
		Args:  []string{"sh", "-c", script, "write", name, fmt.Sprintf("%04o", tarMode(mode))},
		Stdin: content,
	})
	if err := r.Check(); err != nil {
		return fmt.Errorf("write %s in the machine: %w", name, err)
	}
	return nil
}

// ReadFile returns the content of a file in the machine.
func (m *Machine) ReadFile(ctx context.Context, name string) ([]byte, error) {
	r := m.Run(ctx, "cat", "--", name)
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("read %s in the machine: %w", name, err)
	}
	return []byte(r.Stdout), nil
}

// CopyIn copies a file or a directory tree of the host to the path guest, with its permissions,
// owned by root.
func (m *Machine) CopyIn(ctx context.Context, host, guest string) error {
	info, err := os.Stat(host)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		f, err := os.Open(host)
		if err != nil {
			return err
		}
		defer f.Close()
		return m.writeFrom(ctx, guest, f, info.Mode())
	}
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(writeTar(writer, []File{{Guest: guest, Host: host}})) }()
	r := m.RunCommand(ctx, Command{Args: []string{"tar", "-x", "-C", "/", "--keep-directory-symlink", "-p"},
		Stdin: reader})
	reader.Close() // ends the writer where tar ended first
	if err := r.Check(); err != nil {
		return fmt.Errorf("copy %s into the machine: %w", host, err)
	}
	return nil
}

// CopyOut copies a file of the machine to the path host, with its permissions, or a directory tree
// into the directory host.
func (m *Machine) CopyOut(ctx context.Context, guest, host string) error {
	if r := m.Run(ctx, "test", "-d", guest); r.Err != nil {
		return r.Err
	} else if r.ExitCode != 0 {
		return m.copyFileOut(ctx, guest, host)
	}
	if err := os.MkdirAll(host, 0o755); err != nil {
		return err
	}
	return m.readTar(ctx, guest, host)
}

// copyFileOut copies one file, through a temporary file in the same directory.
func (m *Machine) copyFileOut(ctx context.Context, guest, host string) error {
	mode := m.Run(ctx, "stat", "--dereference", "--format=%a", "--", guest)
	if err := mode.Check(); err != nil {
		return fmt.Errorf("copy %s out of the machine: %w", guest, err)
	}
	var bits fs.FileMode
	if _, err := fmt.Sscanf(mode.Stdout, "%o", &bits); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(host), "."+filepath.Base(host)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when the file has taken its name
	defer f.Close()
	r := m.RunCommand(ctx, Command{Args: []string{"cat", "--", guest}, Stdout: f})
	if err := r.Check(); err != nil {
		return fmt.Errorf("copy %s out of the machine: %w", guest, err)
	}
	if err := f.Chmod(bits.Perm()); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), host)
}

// readTar streams a tree out of the machine into the directory host. os.Root keeps what the machine
// sends below it.
func (m *Machine) readTar(ctx context.Context, guest, host string) error {
	root, err := os.OpenRoot(host)
	if err != nil {
		return err
	}
	defer root.Close()
	reader, writer := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := unpackTar(reader, root)
		_, _ = io.Copy(io.Discard, reader) // or tar would not come to its end
		unpacked <- err
	}()
	r := m.RunCommand(ctx, Command{Args: []string{"tar", "-c", "-C", guest, "."}, Stdout: writer})
	writer.Close()
	if err := <-unpacked; err != nil {
		return fmt.Errorf("copy %s out of the machine: %w", guest, err)
	}
	return r.Check()
}
