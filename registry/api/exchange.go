package api

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
)

// correlationHeader identifies a request in the logs of several programs.
const correlationHeader = "X-Correlation-Id"

// correlationLimit is the longest correlation id that is accepted, in characters.
const correlationLimit = 128

// exchange is the response to one request, with facts about the request. Handlers get it as their
// http.ResponseWriter, so that no request is copied for a context value.
type exchange struct {
	http.ResponseWriter

	correlation [1]string // its id, as a header's value
	caller      caller
	from        *connection
	operation   string            // that changes something; empty: none
	denied      string            // why the caller was denied, as a metric's label; empty: it was not
	status      int               // 0: nothing was sent
	reads       bool              // the route only reads
	body        [sha256.Size]byte // SHA-256 of the request's, where it has an Idempotency-Key

	// The mux itself answers requests without a route, in plain text. Until a route has the
	// request, a response is kept here and not sent.
	routed    bool
	ownHeader http.Header
	ownStatus int
}

// exchangeOf returns the exchange of w, an empty one for a request that did not pass ServeHTTP.
func exchangeOf(w http.ResponseWriter) *exchange {
	if x, ok := w.(*exchange); ok {
		return x
	}
	return &exchange{ResponseWriter: w, from: &connection{uncount: func() {}}, routed: true}
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

// correlationOf returns the caller's id if it is valid, else a new one of 128 random bits in hex.
// Ids are unique but not secret: the runtime's generator is enough, and costs no system call.
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
