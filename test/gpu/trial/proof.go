package trial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// proofLine is how the step `pool-gate gpu` begins the line on what NVML lists for the unit.
const proofLine = "the engine holds GPU memory"

// proof tries the proof of the GPU: an engine that takes the least memory that CUDA can, one that
// takes none, and one that takes none where the pool file says that this is meant.
func proof(ctx context.Context, t *Table, tools Tools) error {
	t.Header = []string{"engine", "result", "took"}
	if tools.Python == "" {
		return errors.New("no Python with PyTorch on this host")
	}
	idle := []string{`vram = "1G"`}
	for _, c := range []struct {
		id, what string
		lines    []string
		args     []string
		want     string // the code of the last error; "": ready
	}{
		{"least", "a CUDA context and 1 MiB", idle, []string{"--gib", "0.001"}, ""},
		{"none", "does not use its GPU", idle, []string{"--cpu"}, "GPU_UNAVAILABLE"},
		{"off", "the same with gpu_proof = \"off\"", append([]string{`gpu_proof = "off"`}, idle...),
			[]string{"--cpu"}, ""},
	} {
		if err := writePools(ctx, map[string]string{c.id: poolFile(tools, "[0]", c.lines, c.args...)}); err != nil {
			return errors.Join(err, keepJournal(tools))
		}
		limited, cancel := context.WithTimeout(ctx, 20*time.Second)
		p, took, err := waitPool(limited, c.id, func(p pool) bool {
			return p.Ready || p.LastError != ""
		})
		cancel()
		t.row(c.what, verdict(p), took.Round(10*time.Millisecond))
		if err != nil || p.Ready != (c.want == "") || !strings.HasPrefix(p.LastError, c.want) {
			t.fault("%s: the pool is %s, ready %t, %q; %q was expected (%v)", c.what, p.State, p.Ready, p.LastError,
				c.want, err)
		}
		t.noteProof(ctx, c.id)
		if err := writePools(ctx, map[string]string{c.id: ""}); err != nil {
			return err
		}
	}
	return keepJournal(tools)
}

// verdict is what became of a pool, for a table.
func verdict(p pool) string {
	if p.Ready {
		return "ready"
	}
	return p.State + ": " + p.LastError
}

// noteProof notes what the gate logged of the memory of the pool's engine.
func (t *Table) noteProof(ctx context.Context, id string) {
	text, err := output(ctx, "journalctl", "--no-pager", "--output=cat", "POOL_ID="+id)
	if err != nil {
		t.note("the journal of %s: %v", id, err)
		return
	}
	for line := range strings.Lines(text) {
		if _, said, ok := strings.Cut(line, proofLine); ok {
			t.note("%s: %s%s", id, proofLine, strings.TrimSpace(said))
			return
		}
	}
}

// llamaFile is a pool of llama-server.
func llamaFile(tools Tools, lines []string, args ...string) string {
	return strings.Join(append([]string{
		`engine = "llamacpp"`, `model = "file:` + Home + `/share/tiny.gguf"`, "devices = [0]", "ctx = 512", "slots = 2",
		"args = " + quoted(args...)}, append(lines,
		"[provisioning]", fmt.Sprintf("binary = %q", tools.Llama), "[health]", `interval = "1s"`,
		"[restart]", `initial = "500ms"`, "[drain]", `deadline = "2s"`)...), "\n") + "\n"
}
