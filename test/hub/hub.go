// Package hub imitates the hub of Hugging Face on the loopback, with each fault that a real one has
// shown: it stalls, cuts, lies about sizes and names, redirects elsewhere, forgets its own
// addresses.
//
// It owns what is served and how it goes wrong. It must not know who downloads.
package hub

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// File is one file of a repository.
type File struct {
	Path string
	Size int64
	Open func() io.ReadSeeker // its content, from the beginning
	LFS  bool                 // is at the other host, and its name is its SHA-256
	Xet  string               // name in Xet

	id, oid string // of its content, computed once
}

// Bytes makes a file of some bytes.
func Bytes(path string, data []byte, lfs bool) File {
	return File{Path: path, Size: int64(len(data)), LFS: lfs, Open: func() io.ReadSeeker {
		return io.NewSectionReader(bytesAt(data), 0, int64(len(data)))
	}}
}

type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Data returns bytes that look random, and are the same for the same seed.
func Data(seed, size int) []byte {
	data := make([]byte, size)
	state := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range data {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state >> 32)
	}
	return data
}

// Repo is one repository with one commit.
type Repo struct {
	Name     string // org/name
	Commit   string
	Branches []string
	Files    []File
	Token    string // that readers need; "": none
	Gated    bool   // no reader was accepted yet
	Renamed  string // former name, which redirects here
}

// Hub is two servers: the hub itself, and the host that large files are on.
type Hub struct {
	Endpoint string // of the hub, set before it serves
	CDN      string // of the other host
	PageSize int    // of a listing; 0: all on one page

	// Log gets each request, "METHOD host path range"; nil is silence.
	Log func(request string)

	repos []*Repo

	mu      sync.Mutex
	faults  []*Fault
	signing int      // the generation of addresses that the other host accepts
	seen    []string // requests, "METHOD host path range"
	leaks   []string // requests to the other host that had a token
}

// New makes a hub of repositories.
func New(repos ...*Repo) (*Hub, error) {
	h := &Hub{repos: repos}
	for _, r := range repos {
		if r.Commit == "" {
			sum := sha1.Sum([]byte(r.Name))
			r.Commit = hex.EncodeToString(sum[:])
		}
		if r.Branches == nil {
			r.Branches = []string{"main"}
		}
		for i := range r.Files {
			if err := r.Files[i].identify(); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

func (f *File) identify() error {
	git, sum := sha1.New(), sha256.New()
	fmt.Fprintf(git, "blob %d\x00", f.Size)
	if _, err := io.Copy(io.MultiWriter(git, sum), f.Open()); err != nil {
		return fmt.Errorf("read %s: %w", f.Path, err)
	}
	f.oid = hex.EncodeToString(git.Sum(nil))
	f.id = f.oid
	if f.LFS {
		f.id = hex.EncodeToString(sum.Sum(nil))
	}
	return nil
}

// ID returns the name of the file in a cache.
func (f File) ID() string { return f.id }

// Add makes the hub go wrong.
func (h *Hub) Add(faults ...*Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, faults...)
}

// Heal removes all faults.
func (h *Hub) Heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
}

// Requests returns what was asked so far.
func (h *Hub) Requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.seen)
}

// Leaks returns the requests by which a token reached the other host.
func (h *Hub) Leaks() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.leaks)
}

func (h *Hub) note(r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	request := fmt.Sprintf("%s %s %s %s", r.Method, r.Host, r.URL.Path, r.Header.Get("Range"))
	h.seen = append(h.seen, request)
	if h.Log != nil {
		h.Log(request)
	}
}

// serverTimeout is far above what a test waits for.
const serverTimeout = 10 * time.Minute

// Server returns a server for a handler, which a program runs on a listener.
func Server(handler http.Handler) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: serverTimeout}
}

// SHA256 returns the digest of the content of a file that was made by Bytes.
func (f File) SHA256() string {
	sum := sha256.New()
	_, _ = io.Copy(sum, f.Open()) // from memory
	return hex.EncodeToString(sum.Sum(nil))
}
