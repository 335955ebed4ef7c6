package fetch

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// peers are other hosts, whose managers hand out files of their caches by digest. They are asked
// before the source of a model, for files whose digest is known beforehand. What they send is
// believed no more than what any server sends; one that fails is not asked again by this fetch.
type peers struct {
	client *client
	log    *log.Logger
	rate   int64         // bytes a second below which a connection is too slow
	window time.Duration // that is looked at

	mu    sync.Mutex
	left  []*peer // that are asked
	turn  int
	lack  map[*file][]*peer // that do not have a file
	gave  map[*file]*given
	never map[*file]bool // what peers gave of it was wrong
}

// given is what came of a file.
type given struct {
	from []*peer
	n    int64 // bytes
}

// peer is one of them.
type peer struct {
	base  *url.URL
	token string
}

// artifactPath is where a manager hands out a file of its cache.
const artifactPath = "v1/artifacts"

// newPeers returns nil where the request names none.
func newPeers(r wire.Request, s Secrets, set settings, log *log.Logger) *peers {
	if len(r.Peers) == 0 {
		return nil
	}
	set.stall, set.connect = min(set.stall, set.peerStall), min(set.connect, set.peerStall)
	c, err := newClient(wire.Request{Hosts: r.Hosts, CAFile: s.PeersCA}, set)
	if err != nil {
		log.Printf("no peer is asked: %v", err)
		return nil
	}
	p := &peers{client: c, log: log, rate: set.peerRate, window: set.peerWindow, lack: make(map[*file][]*peer),
		gave: make(map[*file]*given), never: make(map[*file]bool)}
	for _, text := range r.Peers {
		u, err := url.Parse(text)
		if err != nil {
			continue // refused with the request
		}
		one := &peer{base: u}
		if u.Scheme == "https" { // a token is sent to no one who can be read along the way
			one.token = s.PeersToken
		}
		p.left = append(p.left, one)
	}
	return p
}

func (p *peers) close() {
	if p != nil {
		p.client.close()
	}
}

// place is where a peer has a file; false: none is known to.
func (p *peers) place(f *file) (place, bool) {
	if p == nil || f.sum.algorithm != bySHA256 || f.size <= 0 {
		return place{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.never[f] {
		return place{}, false
	}
	for i := range p.left {
		from := p.left[(p.turn+i)%len(p.left)]
		if slices.Contains(p.lack[f], from) {
			continue
		}
		p.turn++
		at := place{peer: from, url: from.base.JoinPath(artifactPath, f.sum.String()), header: http.Header{}}
		if from.token != "" {
			at.header.Set("Authorization", "Bearer "+from.token)
		}
		return at, true
	}
	return place{}, false
}

// get asks a peer for a part of a file. A redirect is not followed.
func (p *peers) get(ctx context.Context, at place, header http.Header) (*http.Response, error) {
	resp, err := p.client.do(ctx, http.MethodGet, at.url, header)
	if err != nil {
		return nil, err
	}
	if whole := header.Get("Range") == ""; redirects(resp) || !whole && resp.StatusCode == http.StatusOK {
		discard(resp)
		return nil, badAnswer(at.peer.name(), "is no manager that hands out files (%d)", resp.StatusCode)
	}
	resp.Body = &steady{ReadCloser: resp.Body, name: at.peer.name(), rate: p.rate, window: p.window}
	return resp, nil
}

func (o *peer) name() string { return o.base.Hostname() }

// took counts what a peer sent of a file.
func (p *peers) took(f *file, from *peer, n int64) {
	if n <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.gave[f]
	if g == nil {
		g = &given{}
		p.gave[f] = g
	}
	g.n += n
	if !slices.Contains(g.from, from) {
		g.from = append(g.from, from)
	}
}

// failed takes an error of a request to a peer, and reports whether another place is to be asked.
// What fails on this host's own disk fails there, too.
func (p *peers) failed(ctx context.Context, f *file, from *peer, err error) bool {
	var why *Failure
	if ctx.Err() != nil || !errors.As(err, &why) {
		return false
	}
	switch why.Reason {
	case wire.CacheFailed, wire.NoSpace, wire.TooLarge:
		return false
	case wire.NotFound:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lack[f] = append(p.lack[f], from)
		return true
	}
	p.drop(from, err.Error())
	return true
}

// drop has a peer not asked again.
func (p *peers) drop(from *peer, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.left, from); i >= 0 {
		p.left = slices.Delete(p.left, i, i+1)
		p.log.Printf("the peer %s is not asked again: %s", from.name(), why)
	}
}

// lied is a file whose digest is wrong; false: no peer gave a part of it. It is fetched again, from
// its source.
func (p *peers) lied(f *file) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	g := p.gave[f]
	delete(p.gave, f)
	p.never[f] = p.never[f] || g != nil
	p.mu.Unlock()
	if g == nil {
		return false
	}
	for _, one := range g.from {
		p.drop(one, "what came of "+f.path+" has another digest")
	}
	return true
}

// report logs what came from where, at the end.
func (p *peers) report(all int64) int64 {
	if p == nil {
		return 0
	}
	n, names := int64(0), []string(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.gave {
		n += g.n
		for _, one := range g.from {
			if !slices.Contains(names, one.name()) {
				names = append(names, one.name())
			}
		}
	}
	slices.Sort(names)
	if len(names) > 0 {
		p.log.Printf("%d of %d bytes came from %s", n, all, strings.Join(names, ", "))
	}
	return n
}

// steady is the body of a peer's answer: it fails when less than a rate comes. Time that is spent
// on what was read does not count.
type steady struct {
	io.ReadCloser
	name   string
	rate   int64
	window time.Duration

	n     int64
	spent time.Duration
}

func (s *steady) Read(b []byte) (int, error) {
	begin := time.Now()
	n, err := s.ReadCloser.Read(b)
	s.spent += time.Since(begin)
	s.n += int64(n)
	if err != nil || s.spent < s.window {
		return n, err
	}
	if rate := float64(s.n) / s.spent.Seconds(); rate < float64(s.rate) {
		return n, lost(s.name+" is slow", nil)
	}
	s.n, s.spent = 0, 0
	return n, nil
}
