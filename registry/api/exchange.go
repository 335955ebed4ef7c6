package api

import (
	"encoding/hex"
	"math/rand/v2"
	"net/http"
)

// correlationHeader names a request, so that its trace through several programs can be found.
const correlationHeader = "X-Correlation-Id"

// correlationLimit is the longest correlation id that is accepted, in characters.
const correlationLimit = 128

// exchange is one request's answer, with what is known of the request beside its headers. Handlers
// get it as their http.ResponseWriter, so that no request must be copied to carry it.
type exchange struct {
	http.ResponseWriter

	correlation [1]string // its id, as a header holds it
	caller      caller
	status      int  // 0: the answer has not begun
	reads       bool // the route only reads

	// The mux answers what has no route itself, in plain text. Until a route has taken the request,
	// an answer is kept here and not sent.
	routed    bool
	ownHeader http.Header
	ownStatus int
}

// exchangeOf returns what is known of the request that w answers; of one that did not come through
// ServeHTTP, nothing.
func exchangeOf(w http.ResponseWriter) *exchange {
	if x, ok := w.(*exchange); ok {
		return x
	}
	return &exchange{ResponseWriter: w, routed: true}
}

// Header is the answer's.
func (x *exchange) Header() http.Header {
	if x.routed {
		return x.ResponseWriter.Header()
	}
	if x.ownHeader == nil {
		x.ownHeader = make(http.Header)
	}
	return x.ownHeader
}

// WriteHeader begins the answer.
func (x *exchange) WriteHeader(status int) {
	if !x.routed {
		x.ownStatus = status
		return
	}
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if !x.routed {
		return len(p), nil
	}
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// correlationOf returns the caller's id where it is one, else a new one of 128 random bits in hex.
// Ids tell requests apart and keep no secret: the runtime's generator is enough, and costs no
// system call.
func correlationOf(r *http.Request) string {
	if given := r.Header[correlationHeader]; len(given) > 0 && printable(given[0]) {
		return given[0]
	}
	var bits [16]byte
	for i, half := range [2]uint64{rand.Uint64(), rand.Uint64()} {
		for n := range 8 {
			bits[8*i+n] = byte(half >> (8 * n))
		}
	}
	var text [32]byte
	hex.Encode(text[:], bits[:])
	return string(text[:])
}

func printable(id string) bool {
	if id == "" || len(id) > correlationLimit {
		return false
	}
	for i := range len(id) {
		if id[i] < ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}
