package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
)

// keyHeader has a key of the caller's choice: a request that is sent again with it, since its
// answer was lost, is carried out once (draft-ietf-httpapi-idempotency-key-header-07).
const keyHeader = "Idempotency-Key"

// keyLimit is the longest key, in characters.
const keyLimit = 128

// mostKeys bounds how many keys of operations are remembered, oldest forgotten first.
const mostKeys = 1024

// requestKey identifies what a key is for: two callers, or two paths, do not share keys.
type requestKey [sha256.Size]byte

// once is a request with a key.
type once struct {
	key  requestKey
	body [sha256.Size]byte
}

// onceOf returns the key of a request, nil where it has none. body is the request's.
func onceOf(w http.ResponseWriter, r *http.Request, body [sha256.Size]byte) (*once, error) {
	given := r.Header[keyHeader]
	if len(given) == 0 {
		return nil, nil
	}
	if len(given) > 1 || !printable(given[0]) || len(given[0]) > keyLimit {
		return nil, invalidParams(fmt.Sprintf("%s is invalid: it must be one value of at most %d printable ASCII "+
			"characters", keyHeader, keyLimit), "Send a UUID, for example.")
	}
	text := fmt.Sprintf("%s\x00%s\x00%s\x00%s", exchangeOf(w).caller.identity(), r.Method, r.URL.Path, given[0])
	return &once{sha256.Sum256([]byte(text)), body}, nil
}

// lease returns the key and the sum as a lease has them.
func (o *once) lease() (key, sum string) {
	if o == nil {
		return "", ""
	}
	return hex.EncodeToString(o.key[:16]), hex.EncodeToString(o.body[:8])
}

// keyReused is the refusal of a key that another request has.
func keyReused() *Error {
	return problem(http.StatusUnprocessableEntity, "IDEMPOTENCY_KEY_REUSED",
		"another request, with another body, was sent with this "+keyHeader, "Use a new key for each request.")
}

// operations remembers operations that were asked for with a key.
type operations struct {
	mu    sync.Mutex
	known map[requestKey]*operation
	order []requestKey // oldest first
}

// operation is one of them.
type operation struct {
	body [sha256.Size]byte
	done bool // it was saved; else it is being carried out
}

// begin reports whether a request was carried out already. If it was not, the caller carries it
// out and calls end.
func (k *operations) begin(o *once) (done bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.known[o.key]
	switch {
	case was == nil:
	case was.body != o.body:
		return false, keyReused()
	case !was.done:
		e := problem(http.StatusConflict, "IDEMPOTENCY_KEY_IN_USE", "a request with this "+keyHeader+
			" is being carried out", "Try again.")
		e.Body.Retriable = true
		return false, e
	default:
		return true, nil
	}
	if k.known == nil {
		k.known = make(map[requestKey]*operation)
	}
	if len(k.order) >= mostKeys {
		delete(k.known, k.order[0])
		k.order = append(k.order[:0], k.order[1:]...)
	}
	k.known[o.key] = &operation{body: o.body}
	k.order = append(k.order, o.key)
	return false, nil
}

// end records that a request was carried out, or forgets it: then it may be sent again.
func (k *operations) end(o *once, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.known[o.key]
	if was == nil {
		return
	}
	if was.done = err == nil; was.done {
		return
	}
	delete(k.known, o.key)
	for i := range k.order {
		if k.order[i] == o.key {
			k.order = append(k.order[:i], k.order[i+1:]...)
			return
		}
	}
}
