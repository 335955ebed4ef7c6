// Package fetch downloads one model into one directory of a cache that huggingface_hub reads too.
//
// It owns the connections, what is on disk while a file is incomplete, and the checks of what
// arrived. It must not know pools, the manager or PID 1: it has a request, and prints events.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"log"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// Secrets are the credentials of a fetch. None is ever sent to another host than the one it is for.
type Secrets struct {
	HubToken string
	Store    StoreKeys
	Registry string // of oci, in the form of auth.json (containers-auth.json(5))
	// PeersToken is sent to peers with https alone.
	PeersToken string
	PeersCA    string // file of the certificates that peers are recognised by; empty: those of the host
}

// Options are what a fetch has beside its request.
type Options struct {
	Secrets Secrets
	Print   func(wire.Event) // is called by one goroutine at a time
	Log     *log.Logger      // what went wrong and is tried again
}

// fetcher is one fetch.
type fetcher struct {
	request wire.Request
	ref     modelref.Ref
	secrets Secrets
	set     settings
	log     *log.Logger
	print   func(wire.Event)

	client *client
	cache  *cache
	source source
	peers  *peers // nil: none
	limit  limiter

	complete atomic.Int64 // bytes of files that are complete
}

// Run fetches what a request asks for, and prints what it does, up to the result. The error is a
// *Failure, or that of a cancelled context.
func Run(ctx context.Context, r wire.Request, o Options) error { return run(ctx, r, o, defaults()) }

func run(ctx context.Context, r wire.Request, o Options, set settings) error {
	ref, err := modelref.Parse(r.Ref)
	switch {
	case err != nil:
	case !ref.Remote():
		err = &modelref.Error{Text: r.Ref, Problem: "is on this host"}
	case ref.Own():
		err = &modelref.Error{Text: r.Ref, Problem: "is for another program",
			Hint: "Set [provisioning] programs." + ref.Scheme + " in config.toml."}
	}
	if err != nil {
		f := &Failure{Reason: wire.BadRequest, Message: err.Error()}
		var wrong *modelref.Error
		if errors.As(err, &wrong) {
			f.Hint = wrong.Hint
		}
		return f
	}
	f := &fetcher{request: r, ref: ref, secrets: o.Secrets, set: set, log: o.Log, print: o.Print,
		limit: limiter{rate: r.RateLimit}}
	if f.client, err = newClient(r, set); err != nil {
		return err
	}
	defer f.client.close()
	f.peers = newPeers(r, o.Secrets, set, o.Log)
	defer f.peers.close()
	if f.cache, err = openCache(r); err != nil {
		return err
	}
	defer f.cache.close()
	if err := f.cache.hold(ctx, set.lockWait); err != nil {
		return err
	}
	if f.source, err = f.newSource(); err != nil {
		return err
	}
	return cancelled(ctx, f.fetch(ctx))
}

func (f *fetcher) newSource() (source, error) {
	switch f.ref.Scheme {
	case modelref.HF:
		return newHub(f)
	case modelref.HTTPS:
		return newWeb(f)
	case modelref.S3:
		return newStore(f)
	case modelref.Image:
		return newImage(f)
	}
	return newRegistry(f)
}

func (f *fetcher) fetch(ctx context.Context) error {
	p, err := f.source.plan(ctx)
	if err != nil {
		return err
	}
	if err := f.wanted(p); err != nil {
		return err
	}
	missing, err := f.missing(p)
	if err != nil {
		return err
	}
	sortFiles(missing)
	if err := f.download(ctx, p, missing); err != nil {
		return err
	}
	if s, ok := f.source.(finisher); ok {
		if err := s.finish(ctx, p); err != nil {
			return err
		}
	}
	return f.result(p)
}

// wanted compares the plan with the digest that the request asks for. That of several files is not
// of one of them, and is left to the caller.
func (f *fetcher) wanted(p plan) error {
	if f.request.Digest == "" || len(p.files) != 1 {
		return nil
	}
	file := p.files[0]
	want := sum{bySHA256, f.request.Digest[len("sha256:"):]}
	if file.sum.algorithm == bySHA256 && file.sum != want {
		return &Failure{Reason: wire.DigestMismatch,
			Message: fmt.Sprintf("%s has the digest %s; %s was expected", file.path, file.sum.hex, want.hex),
			Hint:    "Correct the digest in the pool file, or name the revision that has it."}
	}
	file.sum = want
	return nil
}

// spare is what a fetch leaves free of a file system, in bytes.
const spare = 64 << 20

// missing puts what is there into the snapshot, and returns the rest, for which there is enough
// space.
func (f *fetcher) missing(p plan) (missing []*file, err error) {
	var total, need int64
	for _, file := range p.files {
		total += max(file.size, 0)
		switch {
		case f.cache.has(file):
			f.complete.Add(file.size)
			if err := f.cache.link(p.linked(), file); err != nil {
				return nil, err
			}
		case f.cache.placed(p.linked(), file):
			f.complete.Add(file.size)
		default:
			need += max(file.size-f.cache.begun(file), 0)
			missing = append(missing, file)
		}
	}
	if m := f.request.MaxBytes; m > 0 && total > m {
		return nil, tooLarge(f.ref.String(), total, m)
	}
	f.print(wire.Event{Kind: wire.Plan, Commit: p.commit, Files: len(p.files), Total: total, Present: total - need})
	if need == 0 {
		return missing, nil
	}
	free, err := f.cache.free()
	if err != nil {
		return nil, err
	}
	if need+spare > free {
		return nil, &Failure{Reason: wire.NoSpace,
			Message: fmt.Sprintf("%s needs %d bytes more, and %d are free in %s", f.ref, need, free, f.cache.dir),
			Hint:    "Free some space, or move cache_dir to a larger file system."}
	}
	return missing, nil
}

func tooLarge(name string, n, most int64) error {
	return &Failure{Reason: wire.TooLarge,
		Message: fmt.Sprintf("%s has at least %d bytes; %d are allowed", name, n, most),
		Hint:    "Name one file or a quantisation, or allow more."}
}

// begun returns how many bytes of an incomplete file are on disk.
func (c *cache) begun(f *file) int64 {
	info, err := c.root.Stat("blobs/" + f.blob + incomplete)
	if err != nil || f.size < 0 {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(st.Blocks*512, f.size)
	}
	return 0
}

// errRestart is why a file is begun again that cannot be resumed.
var errRestart = errors.New("begun again")

// download fetches what is missing.
func (f *fetcher) download(ctx context.Context, p plan, missing []*file) error {
	if len(missing) == 0 {
		return nil
	}
	connections := f.request.Connections
	if connections == 0 {
		connections = 8
	}
	q := newQueue(missing, connections)
	g, inner := errgroup.WithContext(ctx)
	defer context.AfterFunc(inner, q.stop)()
	begin := func(file *file) (*blob, error) {
		b, err := openBlob(f.cache, file, f.set.piece)
		if err == nil {
			g.Go(func() error { return f.follow(inner, p, q, b) })
		}
		return b, err
	}
	done, stopped, total := make(chan struct{}), make(chan struct{}), p.bytes()
	go func() {
		defer close(stopped)
		f.report(total, q, done)
	}()
	for range connections {
		w := worker{fetcher: f, queue: q}
		g.Go(func() error { return w.run(inner, begin) })
	}
	err := g.Wait()
	close(done)
	<-stopped
	return err
}

// follow follows one file until it is complete, and puts it into the snapshot.
func (f *fetcher) follow(ctx context.Context, p plan, q *queue, b *blob) error {
	sum, err := b.verify(ctx)
	b.abandon(err)
	b.workers.Wait()
	defer b.close()
	switch {
	case errors.Is(err, errRestart):
		if b.file.restarts++; b.file.restarts >= f.set.tries {
			return &Failure{Reason: wire.Network,
				Message: b.file.path + " was cut each time, and its server cannot resume it",
				Hint:    "Check the network, or fetch it from a server that serves ranges."}
		}
		q.ended(b, true)
		return nil
	case err != nil:
		return err
	}
	if want := b.file.sum; want.algorithm != "" && want.hex != sum {
		peers := f.peers.lied(b.file)
		if !b.resumed && !peers {
			return b.setAside(sum)
		}
		why := "what was there before may be damaged: fetching it again"
		if peers {
			why = "parts of it came from peers: fetching it from its source"
		}
		f.log.Printf("%s has the digest %s, not %s; %s", b.file.path, sum, want.hex, why)
		if err := b.drop(); err != nil {
			return err
		}
		q.ended(b, true)
		return nil
	}
	if err := b.finish(sum); err != nil {
		return err
	}
	if err := f.cache.link(p.linked(), b.file); err != nil {
		return err
	}
	f.complete.Add(b.file.size)
	q.ended(b, false)
	return nil
}

// result records the snapshot and prints where it is.
func (f *fetcher) result(p plan) error {
	if p.links == "" {
		if err := f.cache.saveTree(p.commit, p.tree); err != nil {
			return err
		}
	}
	if p.revision != "" {
		if err := f.cache.ref(p.revision, p.commit); err != nil {
			return err
		}
	}
	if err := f.cache.settle(p.commit); err != nil {
		return err
	}
	e := wire.Event{Kind: wire.Result, Commit: p.commit, Files: len(p.files), Bytes: f.complete.Load(),
		Path: filepath.Join(f.cache.dir, "snapshots", p.commit, p.open), PeerBytes: f.peers.report(f.complete.Load())}
	if p.links == "" && len(p.files) == 1 && p.files[0].sum.algorithm == bySHA256 {
		e.Digest = p.files[0].sum.String()
	}
	f.print(e)
	return nil
}
