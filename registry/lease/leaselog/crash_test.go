package leaselog

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// sample is a lease; revision distinguishes its states.
func sample(n, revision int) lease.Lease {
	return lease.Lease{ID: fmt.Sprintf("l-%04d", n), Pool: "tiny", Replica: "r0", Run: "run",
		Holder:   strings.Repeat("h", 100),
		Endpoint: "http://127.0.0.1:21000", Expires: lease.Moment(revision)}
}

// kept is the file's content, by id.
func kept(t *testing.T, path string) map[string]lease.Lease {
	t.Helper()
	f, r := Open(path, nil)
	defer f.Close()
	if r.Damage != nil || r.Refused != nil {
		t.Fatalf("the file is damaged: %+v; %v", r, asides(path))
	}
	return loaded(t, f)
}

func loaded(t *testing.T, f *File) map[string]lease.Lease {
	t.Helper()
	list, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]lease.Lease)
	for _, l := range list {
		all[l.ID] = l
	}
	return all
}

// history is what a scenario wrote.
type history struct {
	acknowledged map[string]lease.Lease // what the file must hold
	uncertain    map[string]lease.Lease // what the change that the process died in made of some
}

// write writes, renews and drops leases, so that the file is replaced meanwhile.
func write(path string, d *faulty) history {
	f, _ := open(path, nil, d)
	f.sizes = sizes{shortest: 32 << 10, step: 4 << 10}
	defer f.Close()
	h := history{acknowledged: make(map[string]lease.Lease), uncertain: make(map[string]lease.Lease)}
	for round := 0; round < 14 && !d.dead; round++ {
		var put []lease.Lease
		var drop []string
		for n := range 30 + 30*(round%2) {
			put = append(put, sample((round*30+n)%90, round))
		}
		for n := range 15 {
			drop = append(drop, sample((round*30+n+60)%90, 0).ID)
		}
		put = slices.DeleteFunc(put, func(l lease.Lease) bool { return slices.Contains(drop, l.ID) })
		if err := f.Save(put, drop); err == nil {
			h.apply(h.acknowledged, put, drop)
		} else if d.fatal {
			maps.Copy(h.uncertain, h.acknowledged)
			h.apply(h.uncertain, put, drop)
		}
	}
	return h
}

func (h history) apply(to map[string]lease.Lease, put []lease.Lease, drop []string) {
	for _, l := range put {
		to[l.ID] = l
	}
	for _, id := range drop {
		delete(to, id)
	}
}

// TestEveryFault ends the process, or fails the disk, before, within and after each operation.
func TestEveryFault(t *testing.T) {
	whole := faulty{}
	write(filepath.Join(t.TempDir(), "leases.db"), &whole)
	if n := strings.Count(strings.Join(whole.done, " "), "rename"); n < 3 {
		t.Fatalf("the file was replaced %d times: %v", n, whole.done)
	}
	for _, point := range points(whole.done) {
		name := fmt.Sprintf("%03d_%s/fails", point.at, whole.done[point.at])
		if point.fatal {
			name = strings.TrimSuffix(name, "fails") + "dies"
		}
		if point.after {
			name += "_after"
		}
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "leases.db")
			h := write(path, &point)
			got := kept(t, path)
			for id := range sampleIDs() {
				was, is := h.acknowledged[id], got[id]
				if is != was && (!point.fatal || is != h.uncertain[id]) {
					t.Errorf("%s expires at %d; acknowledged was %d", id, is.Expires, was.Expires)
				}
			}
		})
	}
}

// sampleIDs are the ids of all leases that write makes.
func sampleIDs() map[string]bool {
	all := make(map[string]bool)
	for n := range 90 {
		all[sample(n, 0).ID] = true
	}
	return all
}

// writerEnv makes the test's program the writer that TestSIGKILL kills.
const writerEnv = "LEASELOG_TEST_WRITER"

// TestWriter writes and drops leases, and prints each that was acknowledged.
func TestWriter(t *testing.T) {
	path := os.Getenv(writerEnv)
	if path == "" {
		t.Skip("it is run by TestSIGKILL")
	}
	f, r := Open(path, nil)
	if r.Damage != nil || r.Refused != nil {
		t.Fatalf("%+v", r)
	}
	held := loaded(t, f)
	for n := 1; ; n++ {
		put, drop := []lease.Lease{sample(n%500, n)}, []string(nil)
		if other := sample((n+250)%500, 0).ID; held[other].ID != "" {
			drop = append(drop, other)
			delete(held, other)
		}
		if err := f.Save(put, drop); err != nil {
			t.Fatal(err)
		}
		held[put[0].ID] = put[0]
		fmt.Printf("wrote %s %d %s.\n", put[0].ID, n, strings.Join(drop, ""))
	}
}

// TestSIGKILL ends a writer anywhere in its work, the replacement of the file included.
func TestSIGKILL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	for round := range 12 {
		last := killed(t, path, 1+rand.IntN(9000), time.Duration(rand.IntN(2000))*time.Microsecond)
		got := kept(t, path)
		for id, n := range last {
			if got[id].Expires != lease.Moment(n) && n != 0 {
				t.Fatalf("round %d: %s expires at %d; %d was acknowledged", round, id, got[id].Expires, n)
			}
			if n == 0 && got[id].ID != "" {
				t.Fatalf("round %d: %s is there; its end was acknowledged", round, id)
			}
		}
	}
}

// killed runs a writer and kills it that long after so many lines. It returns the last state that
// was acknowledged by id, 0 for none, without those that the next write may have changed.
func killed(t *testing.T, path string, writes int, after time.Duration) map[string]int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriter$")
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	state, lines, newest := make(map[string]int), 0, 0
	for scan := bufio.NewScanner(out); scan.Scan(); {
		var id, drop string
		var n int
		if _, err := fmt.Sscanf(scan.Text(), "wrote %s %d %s", &id, &n, &drop); err != nil {
			continue
		}
		state[id], newest = n, n
		if drop = strings.TrimSuffix(drop, "."); drop != "" {
			state[drop] = 0
		}
		if lines++; lines == writes {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || lines < writes {
		t.Fatalf("the writer ended after %d writes, before it was killed: %v", lines, err)
	}
	delete(state, sample((newest+1)%500, 0).ID)
	delete(state, sample((newest+251)%500, 0).ID)
	return state
}
