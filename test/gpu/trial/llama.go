package trial

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// llama runs a real llama-server with CUDA through the package: ready, an answer, how much of it is
// on the GPU, a crash, a build without CUDA, and the lines of the sandbox that a GPU relaxes.
func llama(ctx context.Context, t *Table, tools Tools) error {
	t.Header = []string{"", "result", "took"}
	if tools.Llama == "" {
		return errors.New("no llama-server on this host: LLAMA_SERVER may name one that was built with CUDA")
	}
	err := errors.Join(servesOnGPU(ctx, t, tools), partlyOnGPU(ctx, t, tools), withoutCUDA(ctx, t, tools),
		writePools(ctx, map[string]string{"llama": ""}))
	return errors.Join(err, keepJournal(tools))
}

// servesOnGPU has the pool become ready, answer a prompt, crash and come back, and tries it with
// the lines of the sandbox that are relaxed for a GPU.
func servesOnGPU(ctx context.Context, t *Table, tools Tools) error {
	p, err := t.llamaPool(ctx, "ready", llamaFile(tools, nil))
	if err != nil || !p.Ready {
		return err
	}
	d, err := firstDevice(ctx, wire.Socket)
	if err != nil {
		return err
	}
	t.row("NVML lists", listed(d.Processes), "")
	t.noteProof(ctx, "llama")
	began := time.Now()
	answer, err := complete(ctx, p.Replicas[0].Endpoint)
	t.row("a prompt is answered", answer, time.Since(began).Round(time.Millisecond))
	if err != nil {
		t.fault("a prompt: %v", err)
	}
	for name, command := range map[string][]string{
		"unit-llama.service":        {"poolctl", "render", "llama"},
		"poolctl-status-llama.txt":  {"poolctl", "status", "llama"},
		"llama-security.txt":        {"systemd-analyze", "security", "--no-pager", p.Replicas[0].Unit},
		"llama-systemctl-show.text": {"systemctl", "show", "--no-pager", p.Replicas[0].Unit},
	} {
		text, err := output(ctx, command[0], command[1:]...)
		if err != nil {
			t.note("%s: %v", strings.Join(command, " "), err)
		}
		if strings.HasSuffix(name, "security.txt") {
			t.row("systemd-analyze security", lastLine(text), "")
		}
		if err := keep(tools, name, text); err != nil {
			return err
		}
	}
	if err := syscall.Kill(p.Replicas[0].PID, syscall.SIGKILL); err != nil {
		return err
	}
	old := p.Replicas[0].PID
	p, took, err := waitPool(ctx, "llama", func(p pool) bool {
		return p.Ready && len(p.Replicas) == 1 && p.Replicas[0].PID != old
	})
	t.row("killed, ready again", verdict(p), took.Round(10*time.Millisecond))
	if err != nil {
		t.fault("not ready after it was killed: %v", err)
		return nil
	}
	return strict(ctx, t)
}

// relaxed are the lines that are relaxed for an engine on a GPU, as they are without one.
var relaxed = []string{"MemoryDenyWriteExecute=yes", "ProcSubset=pid", "SystemCallFilter=~@resources"}

// strict starts the pool with the sandbox of a CPU engine: all of its lines, and if that does not
// serve, each.
func strict(ctx context.Context, t *Table) error {
	tries := append([]string{strings.Join(relaxed, "\n")}, relaxed...)
	for i, lines := range tries {
		text := "[Service]\n" + lines + "\n"
		dir := "/run/systemd/system/pool-engine@llama.r0.service.d"
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "50-strict.conf"),
			[]byte(text), 0o644)); err != nil {
			return err
		}
		p, took, err := restart(ctx)
		t.row("with "+strings.ReplaceAll(lines, "\n", ", "), verdict(p), took.Round(10*time.Millisecond))
		if removed := os.RemoveAll(dir); removed != nil {
			return errors.Join(err, removed)
		}
		if i == 0 && p.Ready {
			break
		}
	}
	p, took, err := restart(ctx)
	t.row("without them again", verdict(p), took.Round(10*time.Millisecond))
	return err
}

// restart restarts the pool with the drop-ins that there are, and returns what became of it.
func restart(ctx context.Context) (pool, time.Duration, error) {
	if _, err := output(ctx, "systemctl", "daemon-reload"); err != nil {
		return pool{}, 0, err
	}
	limited, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	began := time.Now()
	_, err := output(limited, "poolctl", "restart", "llama", "--wait")
	var p pool
	if asked := api(ctx, "/v1/pools/llama", &p); asked != nil {
		return p, 0, errors.Join(err, asked)
	}
	return p, time.Since(began), nil
}

// partlyOnGPU has one of the model's layers on the GPU.
func partlyOnGPU(ctx context.Context, t *Table, tools Tools) error {
	_, err := t.llamaPool(ctx, `args = ["-ngl", "1"]`, llamaFile(tools, nil, "-ngl", "1"))
	return err
}

// withoutCUDA runs the same build without its CUDA backend, where that is a file of its own: an
// engine that has fallen back to the CPU.
func withoutCUDA(ctx context.Context, t *Table, tools Tools) error {
	dir := filepath.Dir(tools.Llama)
	if backends, err := filepath.Glob(filepath.Join(dir, "libggml-cuda*")); err != nil || len(backends) == 0 {
		t.note("This build has no CUDA backend that could be left out.")
		return err
	}
	bare := filepath.Join("/opt", "gputrial-llama")
	if _, err := output(ctx, "cp", "-a", dir, bare); err != nil {
		return err
	}
	backends, err := filepath.Glob(filepath.Join(bare, "libggml-cuda*"))
	for _, file := range backends {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		return err
	}
	without := tools
	without.Llama = filepath.Join(bare, filepath.Base(tools.Llama))
	// Another pool: a version of one that does not become ready leaves the former to serve.
	if err := writePools(ctx, map[string]string{"llama": "", "bare": llamaFile(without, nil)}); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	p, took, err := waitPool(limited, "bare", func(p pool) bool { return !p.Ready && p.LastError != "" })
	t.row("the same build without its CUDA backend", verdict(p), took.Round(10*time.Millisecond))
	if err != nil || !strings.HasPrefix(p.LastError, "GPU_UNAVAILABLE") {
		t.fault("an engine that runs on the CPU is reported as %q, ready %t (%v)", p.LastError, p.Ready, err)
	}
	return writePools(ctx, map[string]string{"bare": ""})
}

// llamaPool writes the pool and waits until it is ready, with a row for what became of it.
func (t *Table) llamaPool(ctx context.Context, what, file string) (pool, error) {
	if err := writePools(ctx, map[string]string{"llama": file}); err != nil {
		return pool{}, err
	}
	limited, cancel := context.WithTimeout(ctx, 25*time.Second)
	defer cancel()
	p, took, err := waitPool(limited, "llama", func(p pool) bool {
		return p.Ready && len(p.Replicas) == 1 && len(p.Replicas[0].GPULayers) > 0
	})
	text := verdict(p)
	if len(p.Replicas) > 0 && len(p.Replicas[0].GPULayers) > 0 {
		text += ", layers on the GPU: " + string(p.Replicas[0].GPULayers)
	}
	t.row(what, text, took.Round(10*time.Millisecond))
	if err != nil {
		t.fault("%s: %v", what, err)
	}
	return p, nil
}

// complete asks for some tokens.
func complete(ctx context.Context, endpoint string) (string, error) {
	body, err := json.Marshal(map[string]any{"prompt": "a", "n_predict": 8})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/completion", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var said struct {
		Tokens int `json:"tokens_predicted"`
	}
	if err = errors.Join(err, json.Unmarshal(text, &said)); err != nil || resp.StatusCode != http.StatusOK {
		return resp.Status, fmt.Errorf("%s: %s (%w)", resp.Status, lastLine(string(text)), err)
	}
	return fmt.Sprintf("%s, %d tokens", resp.Status, said.Tokens), nil
}
