package gate

import (
	"bufio"
	"context"
	"encoding/json"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

const gib = 1 << 30

// gpuHelper plays pool-gpu on a real socket. Each question gets the next of the replies, the last
// of them again and again; a nil one gets none.
type gpuHelper struct {
	socket string
	mu     sync.Mutex
	asked  []wire.Request
}

func startHelper(t *testing.T, replies ...*wire.Reply) *gpuHelper {
	t.Helper()
	h := &gpuHelper{socket: filepath.Join(t.TempDir(), "gpu.sock")}
	l, err := net.Listen("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { h.answer(t, conn, replies) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return h
}

func (h *gpuHelper) answer(t *testing.T, conn net.Conn, replies []*wire.Reply) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return
	}
	var req wire.Request
	if err := json.Unmarshal(line, &req); err != nil {
		t.Errorf("the question is %q: %v", line, err)
	}
	h.mu.Lock()
	h.asked = append(h.asked, req)
	reply := replies[min(len(h.asked), len(replies))-1]
	h.mu.Unlock()
	if reply == nil {
		_, _ = in.ReadByte() // until the other side gives up
		return
	}
	answer := *reply // tests share replies
	answer.Version = wire.Version
	_ = json.NewEncoder(conn).Encode(answer)
}

func (h *gpuHelper) questions() []wire.Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]wire.Request(nil), h.asked...)
}

func short(need, free, total uint64) *wire.Reply {
	return &wire.Reply{Short: []wire.Short{{Device: "GPU-a", Need: need, Free: free, Total: total, Reserved: gib,
		Holders: []wire.Holder{
			{Unit: "pool-engine@big.r0.service", PID: 7, Used: 12 * gib}, {Unit: "pool-engine@new.r0.service", Reserved: gib}, {PID: 9, Used: gib},
		}}}}
}

func TestMemory(t *testing.T) {
	granted := &wire.Reply{Granted: true}
	need := map[string]uint64{"GPU-a": 6 * gib}
	cases := []struct {
		name    string
		replies []*wire.Reply
		o       MemoryOptions
		want    int
		says    string // one line; empty: none
		asked   int    // questions; -1: more than two
	}{
		{"reserved", []*wire.Reply{granted}, MemoryOptions{Need: need}, exit.Ready, "reserved GPU memory: 6.0 GiB of GPU-a", 1},
		{"reserved_once_the_driver_has_released_it", []*wire.Reply{short(6*gib, gib, 15*gib), granted}, MemoryOptions{Need: need, Wait: 20 * time.Second},
			exit.Ready, "reserved GPU memory: 6.0 GiB of GPU-a (after ", 2},
		{"short", []*wire.Reply{short(6*gib, 2*gib, 15*gib)}, MemoryOptions{Need: need}, exit.InsufficientVRAM,
			"too little GPU memory: GPU-a: needs 6.0 GiB, and 2.0 GiB of 15.0 GiB is free, of which 1.0 GiB is reserved for replicas that are loading (held by pool big/r0 with 12.0 GiB, pool new/r0, 1.0 GiB reserved, process 9 with 1.0 GiB)", 1},
		{"short_all_the_time", []*wire.Reply{short(6*gib, 2*gib, 15*gib)}, MemoryOptions{Need: need, Wait: 3 * reserveAgain}, exit.InsufficientVRAM, "too little GPU memory", -1},
		{"a_device_that_is_too_small_is_not_waited_for", []*wire.Reply{short(16*gib, 2*gib, 15*gib)}, MemoryOptions{Need: need, Wait: time.Hour},
			exit.InsufficientVRAM, "GPU-a: needs 16.0 GiB", 1},
		{"a_helper_that_is_silent_does_not_keep_the_engine_down", []*wire.Reply{nil}, MemoryOptions{Need: need, Wait: time.Hour}, exit.Ready,
			"could not check free GPU memory; starting the engine anyway: pool-gpu did not answer", 1},
		{"a_helper_that_falls_silent_neither", []*wire.Reply{short(6*gib, gib, 15*gib), nil}, MemoryOptions{Need: need, Wait: time.Hour}, exit.Ready,
			"could not check free GPU memory; starting the engine anyway: pool-gpu did not answer", 2},
		{"nor_a_driver_that_hangs", []*wire.Reply{{Stalled: &wire.Stalled{Call: "nvmlInit"}}}, MemoryOptions{Need: need}, exit.Ready, "the NVML call nvmlInit has not returned", 1},
		{"nor_a_question_that_is_wrong", []*wire.Reply{{Error: "no device GPU-a"}}, MemoryOptions{Need: need}, exit.Ready,
			"could not check free GPU memory; starting the engine anyway: pool-gpu: no device GPU-a", 1},
		{"main_memory_alone_needs_no_helper", []*wire.Reply{granted}, MemoryOptions{Host: 1 << 20}, exit.Ready, "", 0},
		{"above_memory_max", []*wire.Reply{granted}, MemoryOptions{Need: need, Host: 3 * gib, MemoryMax: 2 * gib, Wait: time.Hour}, exit.InsufficientRAM,
			"too little main memory: the engine needs 3.0 GiB, and its memory_max is 2.0 GiB", 0},
		{"mapped_above_memory_max", []*wire.Reply{granted}, MemoryOptions{Host: 3 << 20, Mapped: 2 << 20, MemoryMax: 2 << 20}, exit.Ready,
			"too little main memory: the engine needs 3.0 MiB, and its memory_max is 2.0 MiB; starting the engine all the same", 0},
		{"what_is_not_mapped_above_memory_max", []*wire.Reply{granted}, MemoryOptions{Host: 3 << 20, Mapped: 1 << 19, MemoryMax: 2 << 20}, exit.InsufficientRAM,
			"too little main memory: the engine needs 3.0 MiB", 0},
		{"mapped_above_what_is_available", []*wire.Reply{granted}, MemoryOptions{Need: need, Host: 1 << 60, Mapped: 1<<60 - 1}, exit.Ready,
			" is available; starting the engine all the same; reserved GPU memory: 6.0 GiB of GPU-a", 1},
		{"a_warning_alone", []*wire.Reply{granted}, MemoryOptions{Host: 1 << 60, Warn: true}, exit.Ready, " is available; starting the engine all the same", 0},
		{"too_little_main_memory_reserves_no_GPU_memory", []*wire.Reply{granted}, MemoryOptions{Need: need, Host: 1 << 60}, exit.InsufficientRAM,
			"too little main memory: the engine needs 1.0 EiB, and ", 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := startHelper(t, c.replies...)
			var log strings.Builder
			c.o.Socket, c.o.Log = h.socket, newLog(&log)
			if got := Memory(t.Context(), c.o); got != c.want {
				t.Errorf("exit %d, want %d", got, c.want)
			}
			if lines := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), c.says) ||
				(lines == 1) != (c.says != "") || lines > 1 {
				t.Errorf("the log:\n%swant one line with %q", &log, c.says)
			}
			asked := h.questions()
			if len(asked) != c.asked && (c.asked >= 0 || len(asked) < 3) {
				t.Errorf("asked %d times, want %d", len(asked), c.asked)
			}
			for _, q := range asked {
				if q.Op != wire.OpReserve || !maps.Equal(q.Needs, c.o.Need) || q.DryRun || q.Version != wire.Version {
					t.Errorf("asked %+v", q)
				}
			}
		})
	}
}

func TestMemoryWithoutAHelper(t *testing.T) {
	var log strings.Builder
	o := MemoryOptions{Need: map[string]uint64{"GPU-a": 1}, Wait: time.Hour, Socket: filepath.Join(t.TempDir(), "none"),
		Log: newLog(&log)}
	if got := Memory(t.Context(), o); got != exit.Ready ||
		!strings.Contains(log.String(), "starting the engine anyway: pool-gpu did not answer") {
		t.Errorf("exit %d, want %d:\n%s", got, exit.Ready, &log)
	}
}

func TestMemoryTerminated(t *testing.T) {
	h := startHelper(t, short(6*gib, gib, 15*gib))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var log strings.Builder
	o := MemoryOptions{Need: map[string]uint64{"GPU-a": 6 * gib}, Wait: time.Hour, Socket: h.socket, Log: newLog(&log)}
	done := make(chan int)
	go func() { done <- Memory(ctx, o) }()
	for len(h.questions()) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if got := <-done; got != exit.Failed || !strings.Contains(log.String(), "terminated while waiting") {
		t.Errorf("exit %d, want %d:\n%s", got, exit.Failed, &log)
	}
}

func TestRelease(t *testing.T) {
	var log strings.Builder
	h := startHelper(t, &wire.Reply{Granted: true})
	if got := Release(t.Context(), h.socket, newLog(&log)); got != exit.Ready || log.Len() > 0 {
		t.Errorf("exit %d:\n%s", got, &log)
	}
	if asked := h.questions(); len(asked) != 1 || asked[0].Op != wire.OpRelease {
		t.Errorf("asked %+v", asked)
	}
	if got := Release(t.Context(), h.socket+".none", newLog(&log)); got != exit.Ready ||
		!strings.Contains(log.String(), "expires by itself") {
		t.Errorf("without a helper: exit %d:\n%s", got, &log)
	}
}

func TestParseNeeds(t *testing.T) {
	for text, want := range map[string]map[string]uint64{
		"GPU-a=5":                    {"GPU-a": 5},
		"GPU-a=5,MIG-b=6":            {"GPU-a": 5, "MIG-b": 6},
		"MIG-GPU-a/1/0=7":            {"MIG-GPU-a/1/0": 7},
		"":                           nil,
		"GPU-a":                      nil,
		"GPU-a=":                     nil,
		"=5":                         nil,
		"GPU-a=0":                    nil,
		"GPU-a=-1":                   nil,
		"GPU-a=5G":                   nil,
		"GPU-a=5,":                   nil,
		"GPU-a=5,GPU-a=6":            nil,
		"GPU-a=1844674407370":        {"GPU-a": 1844674407370},
		"GPU-a=18446744073709551615": nil,
	} {
		got, err := ParseNeeds(text)
		if (err == nil) != (want != nil) || !maps.Equal(got, want) {
			t.Errorf("ParseNeeds(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

// TestMissingNode: a start ends before the engine where a node is missing, and only where nodes of
// this host are seen at all.
func TestMissingNode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, control string
		nodes         []string
		want          string
	}{
		{"all_are_there", "/dev/null", []string{"/dev/zero", "/dev/null"}, ""},
		{"none_is_needed", "/dev/null", nil, ""},
		{"one_is_missing", "/dev/null", []string{"/dev/zero", "/nowhere/nvidia-uvm"}, "/nowhere/nvidia-uvm"},
		{"a_file_is_no_node", "/dev/null", []string{file}, file},
		{"no_control_node", "/nowhere/nvidiactl", []string{"/nowhere/nvidia-uvm"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := missingNode(c.control, c.nodes); got != c.want {
				t.Errorf("= %q, want %q", got, c.want)
			}
		})
	}
}
