package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// webSource is one file at an address.
type webSource struct {
	*fetcher
	url *url.URL
}

func newWeb(f *fetcher) (*webSource, error) {
	u, err := url.Parse(f.ref.String())
	if err != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "the reference is no URL", Err: err}
	}
	return &webSource{f, u}, nil
}

// plan asks for the head of the file. With a digest, what is in the cache needs no question.
func (w *webSource) plan(ctx context.Context) (p plan, err error) {
	f := &file{path: path.Base(w.url.Path), size: -1}
	p = plan{revision: "main", open: f.path, files: []*file{f}, tree: []*file{f}}
	if digest, ok := strings.CutPrefix(w.request.Digest, "sha256:"); ok {
		f.blob, f.sum, p.commit = digest, sum{bySHA256, digest}, digest[:40]
		if f.size = w.cache.size(digest); f.size >= 0 {
			return p, nil
		}
	}
	err = w.retry(ctx, func() (bool, error) {
		resp, _, err := w.look(ctx)
		if err != nil {
			return false, err
		}
		if f.size = resp.ContentLength; resp.StatusCode == http.StatusPartialContent {
			_, f.size, err = contentRange(w.url.Hostname(), resp)
		}
		if f.size > maxFile || resp.Header.Get("Content-Encoding") != "" {
			f.size = -1
		}
		if p.commit == "" {
			f.blob = identity(w.url, resp.Header, f.size)
			p.commit = f.blob
			w.cache.known(p.commit, p.files)
		}
		return false, err
	})
	return p, err
}

// known takes over what a former run found out about the same files.
func (c *cache) known(commit string, files []*file) {
	before := make(map[string]*file)
	for _, k := range c.tree(commit) {
		before[k.path] = k
	}
	for _, f := range files {
		if k := before[f.path]; k != nil && k.size == f.size && c.has(k) {
			f.blob, f.sum = k.blob, k.sum
		}
	}
}

// identity is what a file without a digest is known by while it is incomplete.
func identity(u *url.URL, h http.Header, size int64) string {
	s := sha256.New()
	fmt.Fprintf(s, "%s\n%s\n%s\n%d", u, h.Get("ETag"), h.Get("Last-Modified"), size)
	return hex.EncodeToString(s.Sum(nil))[:40]
}

// look asks for the head, or for the first byte where heads are not served.
func (w *webSource) look(ctx context.Context) (*http.Response, *url.URL, error) {
	resp, at, err := w.client.follow(ctx, http.MethodHead, w.url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		resp, at, err = w.client.follow(ctx, http.MethodGet, w.url, http.Header{"Range": {"bytes=0-0"}})
		if err != nil {
			return nil, nil, err
		}
		resp.Body.Close()
	}
	if f := refused(at.Hostname(), resp); f != nil {
		return nil, nil, f
	}
	return resp, at, nil
}

func (w *webSource) place(ctx context.Context, f *file) (place, error) {
	resp, at, err := w.look(ctx)
	if err != nil {
		return place{}, err
	}
	p := place{url: at, signed: at.String() != w.url.String()}
	if f.sum.algorithm == "" {
		p.etag, p.modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	}
	return p, nil
}

// contentRange reads where a part of a file begins, and the size of the whole, -1 if the server
// does not know it (RFC 9110, 14.4).
func contentRange(host string, resp *http.Response) (from, size int64, err error) {
	text := resp.Header.Get("Content-Range")
	part, whole, found := strings.Cut(strings.TrimPrefix(text, "bytes "), "/")
	first, _, _ := strings.Cut(part, "-")
	from, errFrom := strconv.ParseInt(first, 10, 64)
	size, errSize := strconv.ParseInt(whole, 10, 64)
	if whole == "*" {
		size, errSize = -1, nil
	}
	if !found || errFrom != nil || errSize != nil || from < 0 || size < -1 || !strings.HasPrefix(text, "bytes ") {
		return 0, 0, badAnswer(host, "sent a part of the file without saying which")
	}
	return from, size, nil
}
