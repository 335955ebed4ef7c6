//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// Lines of llama-server.
const (
	allOnGPU   = "load_tensors: offloaded 33/33 layers to GPU"
	partOnGPU  = "load_tensors: offloaded 10/33 layers to GPU"
	draftOnCPU = "load_tensors: offloaded 0/17 layers to GPU"
	noGPUFound = "warning: no usable GPU found, --gpu-layers option will be ignored"
)

// shared is onGPU on GPUs that other pools use too; with 0 bytes it takes no memory.
func shared(mask string, bytes uint64, args ...string) poolFile {
	if bytes > 0 {
		return onGPU(mask, bytes, args...).with("shared = true")
	}
	p := onGPU(mask, 1<<20, args...).with("shared = true")
	for i, key := range p.keys {
		if strings.HasPrefix(key, "args") {
			p.keys[i] = arguments(args)
		}
	}
	return p
}

// by runs the pool's engine by a program.
func (p poolFile) by(program string) poolFile {
	p.tables = append([]string{"[provisioning]\nbinary = \"" + program + "\""}, p.tables[1:]...)
	return p
}

// TestGPUProof: an engine is ready on its GPUs when NVML lists it there, whatever its log says or
// does not say (cases 9 and 10 of the field).
func TestGPUProof(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Forky)
	h.shell(`mkdir -p /opt/wrap; cd /opt/wrap
		printf '#!/bin/sh\nexec /usr/bin/llama-server "$@" >>"$HOME/engine.log" 2>&1\n' >redirected
		printf '#!/bin/sh\n` + host.StubEngine + ` "$@" &\ntrap "kill $!" TERM\nwait\nwait\n' >child
		printf '#!/bin/sh\nCUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES%%%%,*} exec ` + host.StubEngine + ` "$@"\n' >first
		chmod 755 *`)
	real := poolFile{keys: []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`, "devices = [0]",
		"shared = true", "ctx = 128"}, tables: []string{""}}.quick()
	flood := strings.Repeat("a line of many\n", 2000)
	for _, c := range []struct {
		name string
		file poolFile
		says string // of the error; empty: it becomes ready
	}{
		{"case9-redirected-log", real.by("/opt/wrap/redirected"), "NVML lists no process"},
		{"without-a-log", real.with(`args = ["--log-disable"]`), "NVML lists no process"},
		{"case10-draft-on-the-cpu", shared("1", gib/4, "--say", allOnGPU+"\n"+draftOnCPU), ""},
		{"denied-by-its-log", shared("1", gib/4, "--say", noGPUFound+"\n"+allOnGPU), ""},
		{"claimed-by-its-log", shared("0", 0, "--say", allOnGPU), "NVML lists no process"},
		{"flooded", shared("0", 0, "--say", flood), "NVML lists no process"},
		{"a-child-holds-it", shared("1", gib/4).by("/opt/wrap/child"), ""},
		{"both", shared("0, 1", gib/4), ""},
		{"one-of-two", shared("0, 1", gib/4).by("/opt/wrap/first"), "every GPU"},
		{"one-is-enough", shared("0, 1", gib/4).by("/opt/wrap/first").with(`gpu_proof = "any"`), ""},
		{"off", shared("0", 0, "--say", noGPUFound).with(`gpu_proof = "off"`), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.pool(c.name, c.file)
			h.reload()
			if c.says == "" {
				h.wait(c.name, isReady, restarted(0))
			} else if p := h.wait(c.name, failsWith("GPU_UNAVAILABLE")); p.Ready ||
				!strings.Contains(p.LastError, c.says) {
				t.Errorf("last_error %s", p.LastError)
			}
			h.removePool(c.name)
			h.reload()
			h.waitGone(c.name)
		})
	}
}

// TestGPUProofIsUnknown: where NVML cannot list processes, or does not answer, the log decides as
// it did, and the engine's log says so.
func TestGPUProofIsUnknown(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Bookworm)
	const doubt = "could not check whether the engine holds GPU memory"
	for _, c := range []struct{ name, before, after string }{
		{"not-supported", "list 0 3", "list 0 0"},
		{"no-permission", "list 0 4", "list 0 0"},
		{"hidden", "list 0 1", "list 0 0"},
		{"another-namespace", "hold 0 1000000 4194300", "drop 0 4194300"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.gpu("%s", c.before)
			bytes := uint64(0)
			if c.name == "hidden" {
				bytes = gib / 4
			}
			good, bad := c.name+"-good", c.name+"-bad"
			h.pool(good, shared("0", bytes, "--say", allOnGPU))
			h.pool(bad, shared("0", bytes, "--say", noGPUFound))
			h.reload()
			h.wait(good, isReady, restarted(0))
			if text := h.must("journalctl", "--output=cat", "POOL_ID="+good); !strings.Contains(text, doubt) {
				t.Errorf("nothing of it in the log:\n%s", text)
			}
			h.wait(bad, failsWith("GPU_UNAVAILABLE"))
			h.removePool(good)
			h.removePool(bad)
			h.reload()
			h.waitGone(good)
			h.waitGone(bad)
			h.gpu("%s", c.after)
		})
	}
	t.Run("no-helper", func(t *testing.T) {
		h := h.in(t)
		h.pool("a", shared("0", gib/4))
		h.reload()
		h.wait("a", isReady)
		h.must("systemctl", "stop", "pool-gpu.socket", host.HelperUnit)
		h.must("kill", "-KILL", fmt.Sprint(h.engine("a").PID))
		h.wait("a", restarted(1), isReady)
		if text := h.must("journalctl", "--output=cat", "POOL_ID=a"); !strings.Contains(text, doubt) {
			t.Errorf("nothing of it in the log:\n%s", text)
		}
	})
}

// TestGPUPartly: an engine that leaves layers to the CPU is reported, and refused where the host
// says so, unless its pool asks for it (case 35 of the field).
func TestGPUPartly(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Trixie)
	part := func(args ...string) poolFile {
		return shared("0", gib/4, append([]string{"--say", partOnGPU}, args...)...)
	}
	h.pool("part", part())
	h.pool("asked", part("-ngl", "10"))
	h.pool("draft", shared("0", gib/4, "-ngld", "0", "--say", allOnGPU+"\n"+draftOnCPU))
	h.pool("whole", shared("0", gib/4, "--say", allOnGPU))
	h.reload()
	for id, says := range map[string]string{
		"part": "10 of 33 layers are on the GPU", "asked": "10 of 33 layers are on the GPU",
		"draft": "33 of 33 and 0 of 17 layers are on the GPU", "whole": "",
	} {
		h.wait(id, isReady, restarted(0))
		h.eventually(func(context.Context) error { // the log is read with the first probe
			out := h.must("poolctl", "status", id)
			if strings.Contains(out, "layers") != (says != "") || !strings.Contains(out, says) {
				return fmt.Errorf("poolctl status %s:\n%s", id, out)
			}
			return nil
		})
	}
	if out := h.must("poolctl", "status", "part", "--json"); !strings.Contains(out, `"on_gpu": 10`) &&
		!strings.Contains(out, `"on_gpu":10`) {
		t.Errorf("poolctl status part --json:\n%s", out)
	}
	h.shell(`printf '[policy]\nvram_only = true\n' >>/etc/pool-managerd/config.toml`)
	for _, id := range []string{"part", "asked", "draft", "whole"} {
		h.removePool(id)
	}
	h.reload()
	h.pool("part", part())
	h.pool("asked", part("-ngl", "10"))
	h.pool("draft", shared("0", gib/4, "-ngld", "0", "--say", allOnGPU+"\n"+draftOnCPU))
	h.reload()
	if p := h.wait("part", failsWith("GPU_UNAVAILABLE")); !strings.Contains(p.LastError, "vram_only") {
		t.Errorf("last_error %s", p.LastError)
	}
	h.wait("asked", isReady)
	h.wait("draft", isReady)
}
