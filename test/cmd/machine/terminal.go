package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// rawTerminal hands each key of a terminal on as it is, Ctrl-C too, until restore. It returns the
// terminal's size, or 24 by 80 where there is no terminal.
func rawTerminal(f *os.File) (rows, columns int, restore func()) {
	rows, columns, restore = 24, 80, func() {}
	fd := int(f.Fd())
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil && size.Row > 0 {
		rows, columns = int(size.Row), int(size.Col)
	}
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return rows, columns, restore
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP |
		unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(fd, unix.TCSETS, &raw) != nil {
		return rows, columns, restore
	}
	return rows, columns, func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}
