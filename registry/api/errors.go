package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Error is an error response: an HTTP status and the body. A handler returns it.
type Error struct {
	Status int
	Body   wire.Error
}

// Error returns the code and the message.
func (e *Error) Error() string { return e.Body.Error() }

func problem(status int, code, message, hint string) *Error {
	retriable := status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
	return &Error{status, wire.Error{Code: code, Message: message, Text: message, Hint: hint, Retriable: retriable}}
}

func noSuchPool(id string) *Error {
	if len(id) > 64 { // no id is longer
		id = id[:64] + "…"
	}
	return problem(http.StatusNotFound, "POOL_NOT_FOUND", fmt.Sprintf("pool %s not found", id),
		"GET /v1/pools lists the pools.")
}

func noSuchRoute() *Error {
	return problem(http.StatusNotFound, "NOT_FOUND", "no such path", lists+"the paths.")
}

func wrongMethod(method, allow string) *Error {
	return problem(http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED",
		fmt.Sprintf("method %s is not allowed for this path", method), "Allowed: "+allow+".")
}

func broken() *Error {
	return problem(http.StatusInternalServerError, "INTERNAL", "internal error in pool-managerd; see its log",
		"Run journalctl -u pool-managerd and look for the correlation id of this response.")
}

// asError converts a handler's error into a response. A failure of a pool is a conflict with that
// pool's state; an unknown error is not shown to the caller.
func asError(err error) *Error {
	var e *Error
	var f *registry.Failure
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &f):
		return problem(statusOf(f.Code), string(f.Code), f.Message, f.Hint)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e = problem(http.StatusServiceUnavailable, "BUSY", "the daemon did not handle the request in time",
			"Try again.")
		e.Body.RetryAfterMS = time.Second.Milliseconds()
		return e
	}
	return broken()
}

// statusOf returns the HTTP status of a pool's failure: mostly a conflict with the pool's state.
func statusOf(c registry.Code) int {
	switch c {
	case registry.CodeInvalidParams:
		return http.StatusBadRequest
	case registry.CodePoolNotFound:
		return http.StatusNotFound
	case registry.CodePolicyDenied:
		return http.StatusForbidden
	case registry.CodeStateNotSaved, registry.CodeFleetUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusConflict
}

// write sends the error.
func (e *Error) write(w http.ResponseWriter) {
	body, err := wire.Encode(e.Body)
	if err != nil { // details that cannot be JSON
		e.Body.Details = nil
		body, _ = wire.Encode(e.Body)
	}
	if e.Body.RetryAfterMS > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt((e.Body.RetryAfterMS+999)/1000, 10)) // RFC 9110 10.2.3: seconds
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // the caller is gone if this fails
}

// answer sends v as JSON with status 200.
func answer(w http.ResponseWriter, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return err
	}
	return answerBody(w, "application/json", body)
}

// answerStatus sends v as JSON with another status than 200.
func answerStatus(w http.ResponseWriter, status int, v any) error {
	body, err := wire.Encode(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone if this fails
	return nil
}

func answerBody(w http.ResponseWriter, kind string, body []byte) error {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the caller is gone if this fails
	return nil
}
