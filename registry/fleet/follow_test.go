package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// scripted is a manager that answers by the clock of the test.
type scripted struct {
	begun time.Time
	down  func(at time.Duration) bool
	pools func(at time.Duration) string // the id of the one pool
	// models is the one model in the cache; empty: it cannot be read.
	models func(at time.Duration) string
	reads  int
}

func (s *scripted) GetPools(_ context.Context, p client.GetPoolsParams) (a client.Answer[wire.PoolList], err error) {
	s.reads++
	at := time.Since(s.begun)
	if s.down(at) {
		return a, errors.New("no answer")
	}
	if a.ETag = s.pools(at); a.ETag == p.IfNoneMatch {
		a.NotModified = true
		return a, nil
	}
	a.Value.Pools = []wire.Pool{{ID: a.ETag}}
	return a, nil
}

func (s *scripted) GetDevices(context.Context, client.GetDevicesParams) (a client.Answer[wire.DeviceList], err error) {
	a.Value.Devices = []wire.GPUDevice{{Index: 0}}
	return a, nil
}

func (s *scripted) GetModels(_ context.Context, p client.GetModelsParams) (a client.Answer[wire.ModelList], err error) {
	if a.ETag = s.models(time.Since(s.begun)); a.ETag == "" {
		return a, errors.New("no such path")
	}
	a.NotModified = a.ETag == p.IfNoneMatch
	a.Value.Models = []wire.CachedModel{{Model: a.ETag}}
	return a, nil
}

func (s *scripted) GetEvents(context.Context, client.GetEventsParams) (*client.Stream, error) {
	return nil, errors.New("no stream: polls alone are tried here")
}

// TestFollow: states are delivered when they change, and a manager that is away is believed for
// Credible, and then unknown.
func TestFollow(t *testing.T) {
	never := func(time.Duration) bool { return false }
	between := func(from, to time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at >= from && at < to }
	}
	same := func(time.Duration) string { return "a" }
	for _, c := range []struct {
		name  string
		down  func(time.Duration) bool
		pools func(time.Duration) string
		want  string
	}{
		{"unchanged", never, same, "0s a, 10s a, 20s a"}, // devices are read each ten seconds
		{"changed", never, func(at time.Duration) string { return map[bool]string{true: "b", false: "a"}[at > 3*time.Second] },
			"0s a, 4s b, 10s b, 20s b"},
		{"away_for_a_restart", between(3*time.Second, 7*time.Second), same, "0s a, 10s a, 20s a"},
		{"away_for_longer", between(3*time.Second, 15*time.Second), same, "0s a, 8s unknown, 16s a"},
		{"away_from_the_start", between(0, 5*time.Second), same, "6s a, 16s a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &scripted{begun: time.Now(), down: c.down, pools: c.pools}
				f := Follower{Manager: m, Log: slog.New(slog.DiscardHandler)}
				ctx, cancel := context.WithTimeout(t.Context(), 21*time.Second)
				defer cancel()
				var got []string
				f.Run(ctx, func(s State) {
					what := "unknown"
					if s.Known {
						what = s.Pools[0].ID
					}
					got = append(got, fmt.Sprintf("%s %s", time.Since(m.begun).Round(time.Second), what))
				})
				if strings.Join(got, ", ") != c.want {
					t.Errorf("delivered %s, want %s", strings.Join(got, ", "), c.want)
				}
			})
		})
	}
}

// TestEventsAreFollowed: an event has the pools read at once, by a real client and a real stream.
func TestEventsAreFollowed(t *testing.T) {
	reads, events := make(chan time.Time, 100), make(chan string)
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/pools", func(w http.ResponseWriter, _ *http.Request) {
		reads <- time.Now()
		fmt.Fprint(w, `{"pools":[]}`)
	})
	mux.HandleFunc("/v1/devices", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"devices":[]}`) })
	mux.HandleFunc("/v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case e := <-events:
				fmt.Fprint(w, e)
			case <-r.Context().Done():
				return
			}
		}
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	manager, err := client.New(client.Options{Sockets: []string{socket}})
	if err != nil {
		t.Fatal(err)
	}
	f := Follower{Manager: manager, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx, func(State) {}); close(done) }()
	<-reads
	events <- "id: 1\nevent: ready\ndata: {}\n\n" // the stream is open once this is taken
	sent := time.Now()
	if after := (<-reads).Sub(sent); after > Poll*3/4 {
		t.Errorf("the pools were read %s after the event: by a poll", after)
	}
	cancel()
	<-done
}

// TestMailbox: a reader gets the newest state.
func TestMailbox(t *testing.T) {
	m := NewMailbox()
	for _, id := range []string{"a", "b", "c"} {
		m.Put(State{Known: true, Pools: []wire.Pool{{ID: id}}})
	}
	if s := <-m; s.Pools[0].ID != "c" || len(m) != 0 {
		t.Errorf("got %v, and %d more", s, len(m))
	}
}

func TestReadHost(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for _, c := range []struct{ name, machine, wrong string }{
		{"as_it_is", id + "\n", ""},
		{"an_image_before_its_first_boot", "uninitialized\n", "systemd-machine-id-setup"},
		{"empty", "", "systemd-machine-id-setup"},
		{"upper_case", strings.ToUpper(id), "systemd-machine-id-setup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range map[string]string{"etc/machine-id": c.machine,
				"proc/sys/kernel/random/boot_id": "b00t\n", "proc/sys/kernel/hostname": "gpu1\n",
				"proc/meminfo": "MemTotal:       16384 kB\nMemFree: 1 kB\n"} {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			h, err := ReadHost(root)
			switch {
			case c.wrong != "":
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("%v", err)
				}
			case err != nil || h.MachineID != id || h.BootID != "b00t" || h.Name != "gpu1" || h.RAMBytes != 16<<20:
				t.Errorf("%+v, %v", h, err)
			}
		})
	}
	t.Run("files_that_are_missing", func(t *testing.T) {
		if _, err := ReadHost(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}

// TestFollowModels: the cache is read once a minute where it is of interest, is delivered when it
// changed, and is believed to be as it was while it cannot be read.
func TestFollowModels(t *testing.T) {
	for _, c := range []struct {
		name    string
		ignored bool
		models  func(time.Duration) string
		want    string
	}{
		{"changed", false, func(at time.Duration) string {
			return map[bool]string{true: "b", false: "a"}[at > 90*time.Second]
		}, "0s a, 2m0s b"},
		{"unchanged", false, func(time.Duration) string { return "a" }, "0s a"},
		{"never_read", false, func(time.Duration) string { return "" }, "0s unknown"},
		{"away_later", false, func(at time.Duration) string {
			return map[bool]string{true: "", false: "a"}[at > time.Second]
		}, "0s a"},
		{"ignored", true, func(time.Duration) string { return "a" }, "0s unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &scripted{begun: time.Now(), models: c.models, down: func(time.Duration) bool { return false },
					pools: func(time.Duration) string { return "x" }}
				f := Follower{Manager: m, Models: !c.ignored, Log: slog.New(slog.DiscardHandler)}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				var got []string
				last := ""
				f.Run(ctx, func(s State) {
					what := "unknown"
					if len(s.Models) > 0 {
						what = s.Models[0].Model
					}
					if what != last {
						got = append(got, fmt.Sprintf("%s %s", time.Since(m.begun).Round(time.Second), what))
					}
					last = what
				})
				if strings.Join(got, ", ") != c.want {
					t.Errorf("delivered %s, want %s", strings.Join(got, ", "), c.want)
				}
			})
		})
	}
}
