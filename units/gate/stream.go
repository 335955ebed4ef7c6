package gate

import (
	"errors"

	"golang.org/x/sys/unix"
)

// journalSocket is where PID 1 connects the output of a service to the journal
// (systemd-journald.service(8)).
const journalSocket = "/run/systemd/journal/stdout"

// sendWithin bounds the wait for space in a stream, in milliseconds.
const sendWithin = 500

// journalStream duplicates a process's connection to the journal (pidfd_getfd(2), Linux 5.6), so
// that a line can follow everything the process has written. It returns -1 if the process logs
// elsewhere or the call is not permitted. The call needs CAP_SYS_PTRACE, so it comes before
// privileges are dropped; the descriptor can only write to the log. systemd-nspawn blocks the call
// for all users (seen with 252).
func journalStream(pidfd int, socket string) int {
	for _, number := range []int{2, 1} { // standard error, standard output
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			continue
		}
		peer, err := unix.Getpeername(fd)
		if at, ok := peer.(*unix.SockaddrUnix); err == nil && ok && at.Name == socket {
			unix.CloseOnExec(fd)
			return fd
		}
		unix.Close(fd)
	}
	return -1
}

// sendLine writes one line to such a stream and reports whether it was sent. The journal attributes
// it to this process and terminates an unfinished line of the engine (_LINE_BREAK=pid-change,
// systemd.journal-fields(7)). The descriptor shares its flags with the engine's, so the code does
// not depend on them.
func sendLine(stream int, line string) (sent bool) {
	if stream < 0 {
		return false
	}
	for {
		n, err := unix.SendmsgN(stream, []byte(line+"\n"), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if n > 0 {
			return true
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return false
		}
		room, err := unix.Poll([]unix.PollFd{{Fd: int32(stream), Events: unix.POLLOUT}}, sendWithin)
		if room == 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}
