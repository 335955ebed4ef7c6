// Package secret reads files that hold secrets of a pool.
//
// It owns their form. No error of it repeats what is in a file. It must not know pools or units.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Credential is the name by which PID 1 keeps an engine's key (systemd.exec(5), LoadCredential=).
const Credential = "api-key"

// limit bounds a file, in bytes.
const limit = 64 << 10

// Key returns the key that callers of an engine send: the first line of the file that is not empty.
// llama.cpp takes one key a line and ignores lines that begin with a hash.
func Key(path string) (string, error) {
	data, err := read(path)
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(data) {
		word := bytes.TrimSpace(line)
		switch {
		case len(word) == 0 || word[0] == '#':
		case bytes.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", errors.New("holds more than one word in a line, or characters that a header does not allow")
		default:
			return string(word), nil
		}
	}
	return "", errors.New("holds no key")
}

// Padded reports whether a line of the file has white space before or behind it, as one that was
// written on Windows has: an engine that reads the file itself may take that for a part of its key,
// as llama-server does (common/arg.cpp).
func Padded(path string) bool {
	data, err := read(path)
	if err != nil {
		return false
	}
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(bytes.TrimSpace(line)) < len(line) && line[0] != '#' {
			return true
		}
	}
	return false
}

// read reads a regular file without waiting, whatever is there.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("is not a regular file of at most %d bytes", limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
