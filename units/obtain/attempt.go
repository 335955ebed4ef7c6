package obtain

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/fetchunit"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// lookEvery is how often the output of a download is read.
const lookEvery = time.Second

// ended is how one run of a download's unit ended.
type ended struct {
	got       Got
	failure   *registry.Failure // nil: got is what was wanted
	reason    string            // one word, for a metric
	temporary bool              // a further attempt may succeed without a change
	after     time.Duration     // the source asks to wait for so long
	redirect  string            // a host that the policy allows, and that was not pinned
	bytes     int64             // on disk at the end
	peerBytes int64             // of them from other hosts of the fleet
}

// again is a failure that a further attempt may not meet.
func again(reason, message, hint string) ended {
	return ended{failure: registry.Fail(registry.CodeProvisionFailed, message, hint), reason: reason, temporary: true}
}

// attempt runs the unit once, or joins the run that a former manager began.
func (f *flight) attempt(ctx context.Context, hosts *hostSet) ended {
	if c := f.settings.CredentialOf(f.want.Ref); c.File != "" {
		if _, err := os.Stat(c.File); err != nil {
			return ended{reason: "token", failure: registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("%s %s cannot be used: %v", c.Key, c.File, cause(err)),
				fmt.Sprintf("%s, readable by root, or remove %s from %s.", c.Hint, c.Key, egress.PolicyFile))}
		}
	}
	if failure := f.unusableProgram(); failure != nil {
		return ended{reason: "program", failure: failure}
	}
	pins, end := f.pins(ctx, hosts)
	if end != nil {
		return *end
	}
	peers, near := f.peers(ctx)
	unit, err := f.unit(withPeers(pins, near), peers)
	if err != nil {
		return again("internal", err.Error(), "Report this defect with the surrounding log.")
	}
	began := time.Now()
	last, st, err := f.follow(ctx, unit)
	out := f.outcome(last, st, err)
	if ctx.Err() == nil && f.o.o.Ended != nil {
		f.o.o.Ended(Outcome{Reason: out.reason, Bytes: out.bytes, PeerBytes: out.peerBytes, Took: time.Since(began)})
	}
	return out
}

// seen is what a run has reported.
type seen struct {
	bytes, total int64
	end          *wire.Event // the result, or the error; nil: none yet
	silent       bool        // it printed nothing for so long that it was stopped
	bad          string      // lines that were no events; empty: there were none
}

func (s *seen) take(e wire.Event) {
	switch e.Kind {
	case wire.Plan:
		s.total, s.bytes = e.Total, e.Present
	case wire.Progress:
		s.bytes, s.total = e.Bytes, cmp.Or(e.Total, s.total)
	case wire.Result:
		s.bytes, s.end = e.Bytes, &e
	case wire.Failed:
		s.end = &e
	}
}

// follow runs the unit and reads its output until it has ended.
func (f *flight) follow(ctx context.Context, unit fetchunit.Fetch) (seen, systemd.Status, error) {
	type answer struct {
		st  systemd.Status
		err error
	}
	ended := make(chan answer, 1)
	go func() {
		st, err := f.o.o.PID1.RunDetached(ctx, fetchunit.Unit(f.id), unit.Properties(),
			func() error { return fresh(unit.Output) })
		ended <- answer{st, err}
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var s seen
	out := tail{path: unit.Output}
	patience := newPatience(f.own())
	look := func() {
		events := out.read()
		patience.heard(len(events))
		for _, e := range events {
			s.take(e)
		}
		if n := len(events); n > 0 && s.end == nil {
			f.report(f.progress(s, events[n-1]))
		}
	}
	for {
		select {
		case a := <-ended:
			look()
			s.bad = badLines(out.decoder.Bad())
			return s, a.st, a.err
		case <-tick.C:
			look()
			if s.end == nil && patience.over() {
				s.silent = true
				_ = f.halt(ctx) // where PID 1 does not answer, it is asked again
			}
		}
	}
}

// progress is an event as callers are shown it.
func (f *flight) progress(s seen, e wire.Event) pool.Staging {
	return pool.Staging{Bytes: s.bytes, Total: s.total, Rate: e.Rate, File: e.File}
}

// fresh removes the output of an earlier run.
func fresh(output string) error {
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return err
	}
	if err := os.Remove(output); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unit is the unit of the download, with the hosts pinned to addresses.
func (f *flight) unit(pins map[string][]string, peers []string) (fetchunit.Fetch, error) {
	s, ref := f.settings, f.want.Ref
	request := f.request(pins)
	request.Peers = peers
	text, err := json.Marshal(request)
	if err != nil {
		return fetchunit.Fetch{}, err
	}
	u := fetchunit.Fetch{Program: f.o.o.Program, Own: f.ownUnit(), ID: f.id, Ref: ref.String(), CacheDir: s.CacheDir,
		Directory: ref.Directory(), Request: text, Output: filepath.Join(f.o.o.Output, f.id+".jsonl")}
	for _, list := range pins {
		for _, text := range list {
			if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(u.Addresses, a) {
				u.Addresses = append(u.Addresses, a)
			}
		}
	}
	slices.SortFunc(u.Addresses, netip.Addr.Compare)
	if c := s.CredentialOf(ref); c.File != "" {
		u.Credentials = []systemd.PathString{{First: c.Name, Second: c.File}}
	}
	if len(peers) > 0 {
		u.Credentials = append(u.Credentials, f.peerCredentials()...)
	}
	return u, nil
}

func (f *flight) request(pins map[string][]string) wire.Request {
	s, ref := f.settings, f.want.Ref
	r := wire.Request{Version: wire.Version, Ref: ref.String(), Digest: f.want.Digest, CacheDir: s.CacheDir,
		Directory: ref.Directory(), Endpoint: s.EndpointOf(ref), Hosts: pins,
		MaxBytes: int64(min(s.MaxBytes, math.MaxInt64))}
	if ref.Scheme == modelref.S3 {
		r.Region = s.Store.Region
	}
	return r
}

// outcome evaluates how a run ended.
func (f *flight) outcome(s seen, st systemd.Status, err error) ended {
	switch {
	case errors.Is(err, systemd.ErrDisconnected):
		return again(
			"manager",
			"the connection to PID 1 was lost during the download",
			"The download goes on.",
		)
	case err != nil:
		return again("unit", fmt.Sprintf("PID 1 could not start the download of %s: %v", f.want.Ref, err),
			"Read journalctl -u '"+fetchunit.Unit(f.id)+"'.")
	case s.end != nil && s.end.Kind == wire.Result:
		return f.result(*s.end)
	case s.end != nil:
		out := f.failed(*s.end)
		out.bytes = s.bytes
		return out
	}
	if s.silent {
		out := f.silent()
		out.bytes = s.bytes
		return out
	}
	out := again("killed", fmt.Sprintf("the download of %s ended without a result (%s)%s", f.want.Ref, howEnded(st),
		s.bad), "Read journalctl -u '"+fetchunit.Unit(f.id)+"'.")
	out.bytes = s.bytes
	return out
}

// result checks what a program says it has downloaded.
func (f *flight) result(e wire.Event) ended {
	if !e.In(f.request(nil)) {
		return ended{reason: string(wire.BadAnswer), failure: registry.Fail(
			registry.CodeProvisionFailed,
			fmt.Sprintf(
				"the download of %s names %s as its result, which is not in its own directory",
				f.want.Ref,
				e.Path,
			),
			"Report this defect.",
		)}
	}
	if f.want.Ref.Own() {
		return f.ownResult(e)
	}
	if failure := contained(f.settings.CacheDir, f.want.Ref, e.Path); failure != nil {
		return ended{reason: string(wire.BadAnswer), failure: failure}
	}
	return ended{got: Got{Path: e.Path, Digest: e.Digest}, bytes: e.Bytes, peerBytes: min(e.PeerBytes, e.Bytes)}
}

// howEnded is how a unit's process ended, in words.
func howEnded(st systemd.Status) string {
	switch {
	case st.Result == "oom-kill":
		return "it was killed for want of memory"
	case st.ExecMainCode == 1:
		return fmt.Sprintf("exit status %d", st.ExecMainStatus)
	case st.ExecMainCode != 0:
		return fmt.Sprintf("signal %d", st.ExecMainStatus)
	case st.PreCode != 0:
		return fmt.Sprintf("its directory could not be made: exit status %d", st.PreStatus)
	}
	return cmp.Or(st.Result, "no status is known")
}

// cause is an error without the path that os puts before it.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
