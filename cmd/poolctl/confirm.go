package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// answerPoll is how often it is looked, in milliseconds, whether Ctrl-C ended a question.
const answerPoll = 100

// confirm asks a question on standard error, and returns an error unless the answer is yes.
func (a *app) confirm(ctx context.Context, question string) error {
	if _, err := fmt.Fprintf(a.err, "%s [y/N] ", question); err != nil {
		return err
	}
	answer, err := a.answer(ctx)
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		fmt.Fprintln(a.err)
	}
	return &exitError{code: exitFailed, text: "nothing was changed: the answer was not y", err: err,
		hint: "--yes answers for programs, which have no terminal."}
}

// answer reads a line. A file is waited for in steps, since nothing else interrupts the read.
func (a *app) answer(ctx context.Context) (string, error) {
	if a.in == nil {
		return "", io.EOF
	}
	if f, is := a.in.(*os.File); is {
		for {
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, answerPoll)
			if n > 0 {
				break
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return "", fmt.Errorf("standard input: %w", err)
			}
		}
	}
	return bufio.NewReader(a.in).ReadString('\n')
}
