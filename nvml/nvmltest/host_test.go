package nvmltest_test

import (
	"context"
	"reflect"
	"testing"
	"testing/synctest"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/nvmltest"
)

// TestHost: a follower sees each change in order, and no later change reaches into a snapshot that
// it has.
func TestHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		host := nvmltest.NewHost(nvmltest.GPU(0), nvmltest.MIG(1, 2))
		var got []nvml.Update
		done := make(chan error)
		go func() { done <- host.Follow(ctx, func(u nvml.Update) { got = append(got, u) }) }()
		synctest.Wait()

		host.Use(nvmltest.UUID(0), 3*nvmltest.GiB)
		host.Xid(nvmltest.UUID(0), 79)
		host.Lose(nvmltest.UUID(0))
		host.Silence(nvml.Problem{Kind: nvml.ProblemHelper, Text: "gone"})
		host.NewSession()
		synctest.Wait()
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Follow = %v", err)
		}

		var kinds []string
		for _, u := range got {
			switch {
			case u.Snapshot != nil:
				kinds = append(kinds, u.Snapshot.Session)
			case u.Event != nil:
				kinds = append(kinds, string(u.Event.Kind))
			case u.Stale != nil:
				kinds = append(kinds, string(u.Stale.Problem.Kind))
			}
		}
		want := []string{"session-1", "session-1", "xid", "session-1", "no-helper", "session-2"}
		if !reflect.DeepEqual(kinds, want) {
			t.Fatalf("updates = %v, want %v", kinds, want)
		}
		first, used, lost := got[0].Snapshot.Devices[0], got[1].Snapshot.Devices[0], got[3].Snapshot.Devices[0]
		if first.Memory.Used != 0 || used.Memory.Used != 3*nvmltest.GiB {
			t.Errorf("used = %d, then %d", first.Memory.Used, used.Memory.Used)
		}
		if lost.Problem == nil || lost.Problem.Kind != nvml.ProblemLost || lost.Memory != nil ||
			lost.UUID != first.UUID {
			t.Errorf("lost GPU = %+v", lost)
		}
	})
}

// TestCopies: every field of a snapshot is its own, so that a field added later cannot be forgotten
// in the copy.
func TestCopies(t *testing.T) {
	host := nvmltest.NewHost(nvmltest.MIG(0, 3))
	a, b := host.Now(), host.Now()
	if !reflect.DeepEqual(a, b) {
		t.Fatal("two copies differ")
	}
	if at := shared(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem(), "Snapshot"); at != "" {
		t.Errorf("both copies share %s", at)
	}
}

// shared returns the path of the first pointer or slice that a and b have in common.
func shared(a, b reflect.Value, path string) string {
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice:
		if a.IsNil() {
			return ""
		}
		if a.Pointer() == b.Pointer() {
			return path
		}
		if a.Kind() == reflect.Pointer {
			return shared(a.Elem(), b.Elem(), path)
		}
		for i := range a.Len() {
			if at := shared(a.Index(i), b.Index(i), path+"[]"); at != "" {
				return at
			}
		}
	case reflect.Struct:
		if a.Type().PkgPath() == "time" {
			return ""
		}
		for i := range a.NumField() {
			if at := shared(a.Field(i), b.Field(i), path+"."+a.Type().Field(i).Name); at != "" {
				return at
			}
		}
	}
	return ""
}
