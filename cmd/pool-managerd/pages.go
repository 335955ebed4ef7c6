package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// span is a range of addresses.
type span struct{ from, to uint64 }

// unmapProgram gives up the mapped pages of the program's own code and constants. They stay in the
// page cache, from where a page that is used again is mapped again; what only the start needed
// stays out of the resident memory (docs/adr/0004-unused-pages-of-the-program.md).
func unmapProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer maps.Close()
	spans, err := unwritten(maps, program)
	if err != nil {
		return err
	}
	for _, s := range spans {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(s.from), uintptr(s.to-s.from), unix.MADV_DONTNEED)
		if errno != 0 {
			return fmt.Errorf("madvise %x-%x: %w", s.from, s.to, errno)
		}
	}
	return nil
}

// unwritten returns the mappings of a file that cannot be written to and have no page that ever
// was, in the form of proc_pid_smaps(5): of those, the file has every byte. A linker's relocations,
// in a program built with -buildmode=pie, are read-only too, and have such pages.
func unwritten(smaps io.Reader, file string) (spans []span, err error) {
	var candidate *span
	for lines := bufio.NewScanner(smaps); lines.Scan(); {
		line := lines.Text()
		name, value, _ := strings.Cut(line, ":")
		switch {
		case name == "Anonymous" && candidate != nil:
			if strings.Fields(value)[0] == "0" {
				spans = append(spans, *candidate)
			}
			candidate = nil
		case strings.HasSuffix(line, " "+file):
			var s span
			var perms string
			if _, err := fmt.Sscanf(line, "%x-%x %s", &s.from, &s.to, &perms); err != nil {
				return nil, fmt.Errorf("a mapping %.100q: %w", line, err)
			}
			if perms == "r-xp" || perms == "r--p" {
				candidate = &s
			}
		}
	}
	return spans, nil
}
