//go:build machine

package e2e

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// sparseModel writes a model of so many bytes that takes no room on the disk.
func (s *site) sparseModel(path string, bytesOfIt int64) {
	s.t.Helper()
	var head bytes.Buffer
	size, err := tinymodel.EncodeHeader(&head, tinymodel.Options{Seed: 1, Size: bytesOfIt})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := s.within()
	defer cancel()
	if err := s.M.WriteFile(ctx, path, head.Bytes(), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.must("truncate", "-s", fmt.Sprint(size), path)
}

// TestMainMemory: what a model needs of main memory is known before the engine is started, and
// reported where it is too much.
func TestMainMemory(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	t.Run("above_memory_max_nothing_is_started", func(t *testing.T) {
		h := h.in(t)
		h.pool("big", stub().quick().with(`ctx = 65536`, `slots = 4`).table("limits", `memory_max = "64M"`))
		h.reload()
		p := h.wait("big", failsWith("INSUFFICIENT_RAM"))
		if p.State != "waiting" || !strings.Contains(p.String(), "its memory_max is 64.0 MiB") ||
			!strings.Contains(p.Hint, "Raise memory_max") {
			t.Errorf("the pool is %s", p)
		}
		if state := h.must("systemctl", "show", "-p", "ActiveState", "--value",
			host.EngineUnit("big")); state != "inactive" {
			t.Errorf("its unit is %s", state)
		}
	})
	t.Run("with_enough_it_starts_by_itself", func(t *testing.T) {
		h := h.in(t)
		h.pool("big", stub().quick().with(`ctx = 128`, `slots = 4`).table("limits", `memory_max = "64M"`))
		h.reload()
		h.wait("big", isReady)
	})
	t.Run("more_than_the_host_has", func(t *testing.T) {
		h := h.in(t)
		h.pool("huge", stub().quick().with(`ctx = 16777216`, `slots = 64`))
		h.reload()
		p := h.wait("huge", failsWith("INSUFFICIENT_RAM"))
		if !strings.Contains(p.String(), "of main memory") || !strings.Contains(p.String(), "is available") {
			t.Errorf("the pool is %s", p)
		}
		h.wait("big", isReady)
	})
	t.Run("case14_a_mapped_model_warns", func(t *testing.T) {
		h := h.in(t)
		h.sparseModel("/srv/models/sparse.gguf", 1<<38)
		mapped := func(lines ...string) poolFile {
			p := stub().quick().with(append([]string{`ctx = 128`, `slots = 1`}, lines...)...)
			p.keys[1], p.keys[3] = `model = "file:/srv/models/sparse.gguf"`, `args = ["-b", "1", "-ub", "1"]`
			return p
		}
		read := mapped()
		read.keys[3] = `args = ["-b", "1", "-ub", "1", "--no-mmap"]`
		h.pool("mapped", mapped())
		h.pool("read", read)
		h.pool("strict", mapped(`memory_check = "refuse"`))
		warned := read.with(`memory_check = "warn"`)
		h.pool("warned", warned)
		h.pool("unchecked", read.with(`memory_check = "off"`))
		h.reload()
		for id, says := range map[string]string{"mapped": "starting the engine all the same",
			"warned": "starting the engine all the same", "unchecked": ""} {
			h.wait(id, isReady, restarted(0))
			text := h.must("journalctl", "--output=cat", "POOL_ID="+id)
			if strings.Contains(text, "too little main memory") != (says != "") || !strings.Contains(text, says) {
				t.Errorf("%s logged:\n%s", id, text)
			}
		}
		for _, id := range []string{"read", "strict"} {
			p := h.wait(id, inState("waiting"), failsWith("INSUFFICIENT_RAM"))
			if !strings.Contains(p.Hint, "memory_check") {
				t.Errorf("%s: the hint is %q", id, p.Hint)
			}
		}
		for _, id := range []string{"mapped", "read", "strict", "warned", "unchecked"} {
			h.removePool(id)
		}
		h.reload()
	})
	t.Run("the_prompt_cache_fits_memory_max", func(t *testing.T) {
		h := h.in(t)
		h.pool("cached", llama().quick().table("limits", `memory_max = "1G"`))
		h.reload()
		h.wait("cached", isReady, restarted(0))
		text := h.must("systemctl", "show", "-p", "ExecStart", host.EngineUnit("cached"))
		_, after, found := strings.Cut(text, "--cache-ram ")
		mib, err := strconv.Atoi(strings.Fields(after + " .")[0])
		if !found || err != nil || mib < 1 || mib > 768 {
			t.Errorf("its command is %s", text)
		}
	})
	t.Run("what_cannot_be_estimated_is_started", func(t *testing.T) {
		h := h.in(t)
		h.pool("unknown", command().quick().table("limits", `memory_max = "64M"`))
		h.reload()
		h.wait("unknown", isReady)
	})
}
