package registry

import (
	"testing"
	"time"
)

// TestBeat: a heartbeat is seen by readers, is no change, and alters no value that a reader has.
func TestBeat(t *testing.T) {
	r := New()
	reported := 0
	r.OnPool(func(string, *Pool) { reported++ })
	at := time.Unix(1000, 0)
	r.Put(Aggregate(Pool{ID: "a", Replicas: []Replica{{ID: "r0", State: StateReady, Ready: true, LastHeartbeat: at},
		{ID: "r1", State: StateReady, Ready: true, LastHeartbeat: at.Add(time.Minute)}}}))
	before, _ := r.Find("a")
	version, beats := r.Version()
	for _, c := range []struct {
		replica string
		at      time.Time
		pool    time.Time // the heartbeat of the pool then
	}{
		{"r0", at.Add(time.Second), at.Add(time.Minute)},
		{"r0", at.Add(2 * time.Minute), at.Add(2 * time.Minute)},
		{"r1", at.Add(3 * time.Minute), at.Add(3 * time.Minute)},
	} {
		p := r.Beat("a", c.replica, c.at)
		if now, _ := r.Find("a"); now != p || p == before || !p.LastHeartbeat.Equal(c.pool) {
			t.Errorf("%s at %s: the pool's heartbeat is %s", c.replica, c.at, p.LastHeartbeat)
		}
	}
	if now, after := r.Version(); now != version || after != beats+3 || reported != 1 {
		t.Errorf("version %d after %d, %d heartbeats, reported %d times", now, version, after-beats, reported)
	}
	if !before.Replicas[0].LastHeartbeat.Equal(at) {
		t.Error("a value that a reader has was changed")
	}
	if r.Beat("a", "r2", at) != nil || r.Beat("b", "r0", at) != nil {
		t.Error("a heartbeat of an unknown replica has a status")
	}
}
