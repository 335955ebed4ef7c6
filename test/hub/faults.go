package hub

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Place is where a fault is.
type Place string

// The places.
const (
	Revision Place = "revision"
	Tree     Place = "tree"
	Resolve  Place = "resolve"
	CDN      Place = "cdn"
)

// Kind is what goes wrong.
type Kind string

// The kinds of faults. Those without a comment answer with the status that they are named after.
const (
	Stall        Kind = "stall"         // after N bytes, until the client goes away
	Cut          Kind = "cut"           // after N bytes
	Long         Kind = "long"          // announces N bytes more than it should
	LinkedSize   Kind = "linked_size"   // describes the file with N bytes more than it lists
	WrongETag    Kind = "wrong_etag"    // describes the file with the name of another
	Corrupt      Kind = "corrupt"       // the byte at N is another
	OtherHost    Kind = "other_host"    // redirects to To
	Gzip         Kind = "gzip"          // packs the file, without a length
	IgnoreRange  Kind = "ignore_range"  // answers with all of the file
	WrongRange   Kind = "wrong_range"   // answers with another part
	Expire       Kind = "expire"        // after N bytes, all addresses so far
	RateLimited  Kind = "rate_limited"  // 429, to wait for N seconds by the hub's own header
	RetryAfter   Kind = "retry_after"   // 429, to wait for N seconds
	ServerError  Kind = "server_error"  // 500
	Unavailable  Kind = "unavailable"   // 503
	Forbidden    Kind = "forbidden"     // 403
	NotJSON      Kind = "not_json"      // a page for people
	Endless      Kind = "endless"       // a listing whose next page is itself
	Slow         Kind = "slow"          // N bytes a second
	NoRangeKnown Kind = "no_size_range" // a part of a file, without the size of the whole
)

// Fault is one thing that goes wrong, Times times; 0 is always.
type Fault struct {
	On    Place
	Kind  Kind
	N     int64
	Times int
	To    string // OtherHost: where to
	File  string // only of this file

	used int
}

// ParseFault reads PLACE:KIND[=N][*TIMES][@TO], as programs take it.
func ParseFault(text string) (*Fault, error) {
	f := &Fault{}
	rest, to, _ := strings.Cut(text, "@")
	rest, times, _ := strings.Cut(rest, "*")
	rest, n, _ := strings.Cut(rest, "=")
	place, kind, found := strings.Cut(rest, ":")
	f.On, f.Kind, f.To = Place(place), Kind(kind), to
	var err error
	if n != "" {
		f.N, err = strconv.ParseInt(n, 10, 64)
	}
	if err == nil && times != "" {
		f.Times, err = strconv.Atoi(times)
	}
	if err != nil || !found {
		return nil, fmt.Errorf("%q is not PLACE:KIND[=N][*TIMES][@TO]", text)
	}
	return f, nil
}

// use counts a use, with the hub locked.
func (f *Fault) use() bool {
	if f.Times > 0 && f.used >= f.Times {
		return false
	}
	f.used++
	return true
}

// take returns the fault that a request is to have, nil if none.
func (h *Hub) take(on Place, file string, kinds ...Kind) *Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.faults {
		if f.On != on || f.File != "" && f.File != file {
			continue
		}
		for _, k := range kinds {
			if f.Kind == k && f.use() {
				return f
			}
		}
	}
	return nil
}

// distort changes what the hub says about a file.
func (h *Hub) distort(w http.ResponseWriter, name string) {
	if f := h.take(Resolve, name, LinkedSize); f != nil {
		n, _ := strconv.ParseInt(w.Header().Get("X-Linked-Size"), 10, 64)
		w.Header().Set("X-Linked-Size", strconv.FormatInt(n+f.N, 10))
	}
	if f := h.take(Resolve, name, WrongETag); f != nil {
		w.Header().Set("X-Linked-Etag", `"`+strings.Repeat("0", 64)+`"`)
	}
}

// corrupted returns the content, with another byte if it is to be so.
func (h *Hub) corrupted(file File) io.ReadSeeker {
	f := h.take(CDN, file.Path, Corrupt)
	if f == nil {
		return file.Open()
	}
	data, err := io.ReadAll(file.Open())
	if err != nil {
		return file.Open()
	}
	data[f.N] ^= 0xff
	return Bytes("", data, false).Open()
}

// statuses are those faults that are an answer without a body.
var statuses = map[Kind]int{ServerError: http.StatusInternalServerError, Unavailable: http.StatusServiceUnavailable,
	Forbidden: http.StatusForbidden, RateLimited: http.StatusTooManyRequests, RetryAfter: http.StatusTooManyRequests}

// fails answers in a wrong way, and reports whether it did.
func (h *Hub) fails(w http.ResponseWriter, r *http.Request, on Place, file string) bool {
	f := h.take(on, file, Stall, Cut, Long, Gzip, IgnoreRange, WrongRange, Expire, RateLimited, RetryAfter, ServerError,
		Unavailable, Forbidden, NotJSON, Endless, Slow, NoRangeKnown)
	if f == nil || r.Method == http.MethodHead && statuses[f.Kind] == 0 {
		return false
	}
	if status := statuses[f.Kind]; status != 0 {
		switch f.Kind {
		case RateLimited:
			w.Header().Set("Ratelimit", fmt.Sprintf(`"api";r=0;t=%d`, f.N))
		case RetryAfter:
			w.Header().Del("Ratelimit")
			w.Header().Set("Retry-After", strconv.FormatInt(f.N, 10))
		}
		http.Error(w, "no", status)
		return true
	}
	switch f.Kind {
	case NotJSON:
		fmt.Fprintln(w, "<html>Sign in to the network</html>")
	case Endless:
		w.Header().Set("Link", "<"+h.Endpoint+r.URL.RequestURI()+`>; rel="next"`)
		answer(w, []any{})
	default:
		h.body(w, r, f, file)
	}
	return true
}

// body sends a file in a wrong way.
func (h *Hub) body(w http.ResponseWriter, r *http.Request, f *Fault, name string) {
	var file File
	for _, repo := range h.repos {
		for _, have := range repo.Files {
			if have.Path == name {
				file = have
			}
		}
	}
	content := file.Open()
	from, to := int64(0), file.Size-1
	if text := r.Header.Get("Range"); text != "" && f.Kind != IgnoreRange && f.Kind != Gzip {
		if _, err := fmt.Sscanf(text, "bytes=%d-%d", &from, &to); err != nil {
			http.Error(w, "range", http.StatusRequestedRangeNotSatisfiable)
			return
		}
		if f.Kind == WrongRange {
			from++
		}
		whole := strconv.FormatInt(file.Size, 10)
		if f.Kind == NoRangeKnown {
			whole = "*"
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%s", from, to, whole))
	}
	length := to - from + 1
	if _, err := content.Seek(from, io.SeekStart); err != nil {
		return
	}
	part := io.LimitReader(content, length)
	if f.Kind == Gzip {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.Copy(z, part) // the client is gone
		_ = z.Close()
		return
	}
	if f.Kind == Long {
		length += f.N
	}
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
	h.send(w, r, f, part)
}

// send sends a body up to where it goes wrong.
func (h *Hub) send(w http.ResponseWriter, r *http.Request, f *Fault, part io.Reader) {
	flush := func() { _ = http.NewResponseController(w).Flush() } // the client is gone
	switch f.Kind {
	case Stall:
		_, _ = io.CopyN(w, part, f.N)
		flush()
		<-r.Context().Done()
	case Cut:
		_, _ = io.CopyN(w, part, f.N)
		flush()
		panic(http.ErrAbortHandler)
	case Expire:
		_, _ = io.CopyN(w, part, f.N)
		flush()
		h.mu.Lock()
		h.signing++
		h.mu.Unlock()
		panic(http.ErrAbortHandler)
	case Slow:
		for r.Context().Err() == nil {
			if _, err := io.CopyN(w, part, max(f.N/20, 1)); err != nil {
				return
			}
			flush()
			time.Sleep(time.Second / 20)
		}
	default:
		_, _ = io.Copy(w, part)
	}
}
