package serve

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// TestStatus: how publishing and reading go is answered without etcd being read for it, also where
// there is no etcd.
func TestStatus(t *testing.T) {
	status := func(s *site) wire.FleetStatus {
		t.Helper()
		resp, err := s.client.Get("http://pool-fleet/v1/fleet/status")
		if err != nil {
			s.t.Fatal(err)
		}
		defer resp.Body.Close()
		var got wire.FleetStatus
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
			s.t.Fatalf("%d %v", resp.StatusCode, err)
		}
		return got
	}
	inTime(t, func(s *site) {
		p := fleet.NewProgress("etcd")
		p.Wrote(3)
		s.o.Publishing = []*fleet.Progress{p}
		got := status(s)
		if len(got.Publishing) != 1 || !got.Publishing[0].Published || got.Publishing[0].Writes != 3 ||
			got.Reading.State != "idle" || s.source.opened.Load() != 0 {
			t.Errorf("%+v", got)
		}
		answer := s.asking()
		s.has("x ready", "y ready")
		<-answer
		if r := status(s).Reading; r.State != "reading" || r.Hosts != 1 || r.Pools != 2 || r.SinceMS == 0 {
			t.Errorf("%+v", r)
		}
		s.loses("no leader")
		if r := status(s).Reading; r.State != "lost" || r.Pools != 2 {
			t.Errorf("%+v", r)
		}
	})
}

// TestWithoutEtcd: where there is no etcd, the lists are refused and say why.
func TestWithoutEtcd(t *testing.T) {
	w := httptest.NewRecorder()
	s := New(Options{Log: slog.New(slog.DiscardHandler)})
	s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/fleet/pools", nil))
	if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "FLEET_NOT_CONFIGURED") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/fleet/status", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"publishing":[]`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestReadWhileAsked: etcd is read from the first request on until no one has asked for a while,
// and nothing is kept then.
func TestReadWhileAsked(t *testing.T) {
	inTime(t, func(s *site) {
		for round := 1; round <= 2; round++ {
			answer := s.asking()
			s.has("x ready")
			<-answer
			time.Sleep(linger - time.Second)
			s.want(s.get(), "7 gpu1/x ready")
			time.Sleep(linger - time.Second)
			if synctest.Wait(); !s.source.open.Load() {
				t.Fatal("etcd is not read any longer although someone asked")
			}
			time.Sleep(linger)
			synctest.Wait()
			n, kept := s.source.opened.Load(), s.set != nil || s.bodies[listPools] != nil
			if open := s.source.open.Load(); open || kept || n != int32(round) {
				t.Fatalf("reading %v, after %d times; kept: %v", open, n, s.set)
			}
		}
	})
}
