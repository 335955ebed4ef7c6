package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"syscall"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// errSilent ends a command with status 1 when everything was printed already.
var errSilent = errors.New("printed already")

// failed marks an error of a command that ran, as opposed to one of its use.
type failed struct{ error }

func (f *failed) Unwrap() error { return f.error }

// exitError is an error with an exit status of its own and, mostly, a hint.
type exitError struct {
	code int
	text string
	hint string
	err  error
}

func (e *exitError) Error() string { return e.text }
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, text: fmt.Sprintf(format, args...)}
}

// unreachable explains why the daemon did not answer.
func unreachable(silent *client.Unreachable) error {
	addr, err := silent.Addr, silent.Err
	e := &exitError{code: exitUnreachable, err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.text = fmt.Sprintf("pool-managerd cannot be reached: there is no socket %s", addr)
		e.hint = "Is it installed and started? systemctl status pool-managerd.socket. Another address is given by " +
			"--host."
	case errors.Is(err, syscall.ECONNREFUSED):
		e.text = fmt.Sprintf("pool-managerd cannot be reached: nothing listens on %s", addr)
		e.hint = "systemctl status pool-managerd.socket; systemctl start pool-managerd.socket"
	case errors.Is(err, fs.ErrPermission):
		e.text = fmt.Sprintf("permission denied on the socket %s", addr)
		e.hint = "Run poolctl as root, or as a member of the group pool-managerd (usermod -aG pool-managerd USER, " +
			"then log in again)."
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		e.text = fmt.Sprintf("pool-managerd at %s did not answer", addr)
		if silent.Within > 0 {
			e.text += " within " + silent.Within.String()
		}
		e.hint = "It hangs, or is starting; engines go on without it. --timeout waits longer.\n" +
			"systemctl status pool-managerd; journalctl -u pool-managerd"
	default:
		e.text = fmt.Sprintf("pool-managerd at %s cannot be reached: %v", addr, err)
		e.hint = "systemctl status pool-managerd.socket pool-managerd.service"
	}
	return e
}

// refused converts an error answer of the API.
func refused(status int, answer *wire.Error) error {
	e := &exitError{code: exitFailed, text: answer.Error(), hint: answer.Hint, err: answer}
	switch {
	case answer.Code == codePoolNotFound:
		e.code, e.text, e.hint = exitNoPool, answer.Message, ""
	case status == http.StatusUnauthorized && answer.Code == "MISSING_TOKEN":
		e.text, e.hint = "the API needs a token over TCP",
			"Give --token-file FILE (auth_token_file in config.toml), or use the unix socket: leave --url out."
	case status == http.StatusUnauthorized:
		e.text, e.hint = "the API does not accept this token",
			"The file must hold what auth_token_file in config.toml names; after a change there, systemctl reload "+
				"pool-managerd."
	}
	return e
}

const codePoolNotFound = "POOL_NOT_FOUND"
