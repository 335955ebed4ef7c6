package fetch

import (
	"cmp"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"net/http"
	"net/url"
)

// source is where files come from.
type source interface {
	// plan finds out which files a reference means.
	plan(ctx context.Context) (plan, error)
	// place finds out where a file is at this moment.
	place(ctx context.Context, f *file) (place, error)
}

// finisher is a source that makes something else of its files.
type finisher interface {
	// finish makes the snapshot, once all files are there.
	finish(ctx context.Context, p plan) error
}

// plan is what a reference means.
type plan struct {
	commit   string // name of the snapshot
	revision string // that led to it, and is kept in refs; "" for a commit
	open     string // path in the snapshot that an engine opens; "" for the whole snapshot
	links    string // where the files are linked to instead; "" for the snapshot
	files    []*file
	tree     []*file // all files of the snapshot, of which files are some
}

// linked is where files are linked to, in snapshots.
func (p plan) linked() string { return cmp.Or(p.links, p.commit) }

// file is one file of a snapshot.
type file struct {
	path string // in the snapshot
	size int64  // -1: unknown
	blob string // its name in blobs
	sum  sum
	git  string // hf: name of git's object, for trees
	xet  string // hf: name in Xet, for trees
	key  string // s3: of the object
	etag string // s3: of the object

	restarts int // from the beginning
}

// place is where a file can be read.
type place struct {
	url    *url.URL
	header http.Header
	signed bool // the address is good for a while, and was made by the source for this fetch
	// What each answer must repeat of the first one; "" where a digest is known.
	etag, modified string
	peer           *peer // nil: it is the source's own
}

// changed reports whether an answer is about another file.
func (p place) changed(h http.Header) bool {
	differs := func(was, is string) bool { return was != "" && is != "" && was != is }
	return differs(p.etag, h.Get("ETag")) || differs(p.modified, h.Get("Last-Modified"))
}

// sum is what the content of a file is checked against.
type sum struct {
	algorithm string // sha256, git, or "" if none is known
	hex       string
}

const (
	bySHA256 = "sha256"
	byGit    = "git" // SHA-1 of the size and the content (gitformat-loose(5)), of small files
)

// hash returns what computes the sum of a file. Where none is known, it is the one that names the
// file afterwards.
func (s sum) hash(size int64) hash.Hash {
	if s.algorithm != byGit {
		return sha256.New()
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}

func (s sum) String() string { return s.algorithm + ":" + s.hex }
