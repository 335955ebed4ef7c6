package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
)

// The bounds of one look, at the API and at an engine: two seconds and one, where it looks each
// 400 ms. In a slower machine the interval is longer, and so are they.
func (w *witness) apiWithin() time.Duration    { return 5 * w.interval }
func (w *witness) engineWithin() time.Duration { return 5 * w.interval / 2 }

// handoffDir is where the manager keeps its hand-off files.
const handoffDir = "/run/pool-managerd/engines"

// watch looks at everything again and again.
func (w *witness) watch(ctx context.Context) {
	for pause(ctx, w.interval) {
		w.look(ctx)
	}
}

// look looks at everything once.
func (w *witness) look(ctx context.Context) {
	var l truth.Look
	var err error
	if l.Pools, err = w.pools(ctx); err != nil {
		l.API = err.Error()
	}
	l.Answers = w.ask(ctx, l.Pools)
	if l.Processes, err = processes(); err != nil {
		fmt.Fprintln(os.Stderr, "witness:", err)
		return
	}
	l.Files = files()
	if ctx.Err() == nil {
		w.print(truth.Record{Look: &l})
	}
}

// pools asks the API for all pools.
func (w *witness) pools(ctx context.Context) ([]truth.Pool, error) {
	ctx, cancel := context.WithTimeout(ctx, w.apiWithin())
	defer cancel()
	body, err := guest.Send(ctx, w.c, http.MethodGet, guest.API+"/v1/pools")
	if err != nil {
		return nil, err
	}
	var list struct{ Pools []truth.Pool }
	return list.Pools, json.Unmarshal(body, &list)
}

// ask asks each engine for its health that the API calls ready, all at the same time.
func (w *witness) ask(ctx context.Context, pools []truth.Pool) []truth.Answer {
	var mu sync.Mutex
	var all sync.WaitGroup
	var answers []truth.Answer
	for _, p := range pools {
		for _, r := range p.Replicas {
			if !p.Ready || !r.Ready {
				continue
			}
			all.Go(func() {
				a := truth.Answer{Unit: r.Unit, Endpoint: r.Endpoint}
				var err error
				if a.PID, err = w.health(ctx, r.Endpoint); err != nil {
					a.Error = err.Error()
				}
				mu.Lock()
				defer mu.Unlock()
				answers = append(answers, a)
			})
		}
	}
	all.Wait()
	return answers
}

// health asks an engine for its health, and returns which process answered.
func (w *witness) health(ctx context.Context, endpoint string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, w.engineWithin())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/health", nil)
	if err != nil {
		return 0, err
	}
	req.Close = true // the port has to take a connection each time
	resp, err := w.c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	pid, err := strconv.Atoi(resp.Header.Get("Stub-Process"))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return pid, err
}

// processes finds the engines' processes.
func processes() ([]truth.Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []truth.Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if unit, start, ok := engine(pid); ok {
			found = append(found, truth.Process{Unit: unit, PID: pid, Start: start})
		}
	}
	return found, nil
}

// engine reports whether a process is a stand-in engine in the unit of a pool, and when it was
// started. One that ends meanwhile is none.
func engine(pid int) (unit string, start uint64, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	comm, err := os.ReadFile(dir + "/comm")
	if err != nil || strings.TrimSpace(string(comm)) != "stubengine" {
		return "", 0, false
	}
	cgroup, err := os.ReadFile(dir + "/cgroup")
	if err != nil {
		return "", 0, false
	}
	_, group, _ := strings.Cut("\n"+string(cgroup), "\n0::")
	group, _, _ = strings.Cut(group, "\n")
	if unit = path.Base(group); !strings.HasPrefix(unit, "pool-engine@") {
		return "", 0, false
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return "", 0, false
	}
	// proc_pid_stat(5): the state is behind the name in parentheses, starttime the 22nd field.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", 0, false
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return unit, start, err == nil
}

// files reads all hand-off files.
func files() []truth.File {
	entries, err := os.ReadDir(handoffDir)
	if err != nil {
		return nil
	}
	var found []truth.File
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		text, err := os.ReadFile(handoffDir + "/" + e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var content struct {
			Pool string `json:"pool_id"`
			PID  int    `json:"pid"`
		}
		if err == nil {
			err = json.Unmarshal(text, &content)
		}
		f := truth.File{Name: e.Name(), Pool: content.Pool, PID: content.PID}
		if err != nil {
			f.Error = err.Error()
		}
		found = append(found, f)
	}
	return found
}
