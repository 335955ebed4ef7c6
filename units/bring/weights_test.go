package bring_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// tensors is a file in safetensors with one tensor of so many bytes.
func tensors(table string, data int) string {
	head := binary.LittleEndian.AppendUint64(nil, uint64(len(table)))
	return string(head) + table + strings.Repeat("x", data)
}

const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\n" +
	"size 4920739232\n"

// TestDamaged: what a failed or unfinished download leaves is recognised, and what is
// not known passes.
func TestDamaged(t *testing.T) {
	var tiny bytes.Buffer
	if err := tinymodel.Encode(&tiny, tinymodel.Options{}); err != nil {
		t.Fatal(err)
	}
	whole := tiny.String()
	const table = `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`
	for _, c := range []struct {
		name, file string
		by         engine.Weights
		content    string
		want       string // "": it passes
	}{
		{"gguf", "m.gguf", engine.GGUF, whole, ""},
		{"gguf_of_any_name", "blob", engine.GGUF, whole, ""},
		{"gguf_cut_in_its_weights", "m.gguf", engine.GGUF, whole[:len(whole)-9], "is incomplete: it has"},
		{"gguf_cut_in_its_header", "m.gguf", engine.GGUF, whole[:100], "is incomplete: it has 100 bytes and ends within its header"},
		{"gguf_of_two_bytes", "m.gguf", engine.GGUF, "GG", `is not a GGUF file: it is a text: "GG"`},
		{"empty", "m.gguf", engine.GGUF, "", "is empty"},
		{"pointer", "m.gguf", engine.GGUF, pointer, "is a git-lfs pointer; the weights were not fetched"},
		{"pointer_for_a_program", "m.bin", engine.Anything, pointer, "is a git-lfs pointer"},
		{"pointer_to_a_tokenizer", "tokenizer.model", engine.Safetensors, pointer, "is a git-lfs pointer"},
		{"a_long_text_about_git_lfs", "README.md", engine.Safetensors, pointer + strings.Repeat("x", 2000), ""},
		{"web_page", "m.gguf", engine.GGUF, "\n<!DOCTYPE html><html>", "is not a GGUF file: it is a web page"},
		{"refusal_of_a_hub", "m.gguf", engine.GGUF, "Invalid username or password.", `it is a text: "Invalid username or password."`},
		{"refusal_as_json", "m.gguf", engine.GGUF, `{"error":"Repository not found"}`, `it is a text: "{\"error\"`},
		{"gzip", "m.gguf", engine.GGUF, "\x1f\x8b\x08\x00\x00", "it is compressed by gzip"},
		{"zip", "m.gguf", engine.GGUF, "PK\x03\x04\x00\x00", "it is a ZIP archive"},
		{"zeros", "m.gguf", engine.GGUF, strings.Repeat("\x00", 4096), "it begins with zeros"},
		{"another_format", "m.gguf", engine.GGUF, "ggjt\x03\x00\x00\x00\x80\xff", "it does not begin with GGUF"},
		{"safetensors", "m.safetensors", engine.Safetensors, tensors(table, 16), ""},
		{"safetensors_cut", "m.safetensors", engine.Safetensors, tensors(table, 15), "is incomplete: it has 109 bytes, but its header requires at least 110"},
		{"safetensors_cut_in_its_header", "m.safetensors", engine.Safetensors, tensors(table, 0)[:40], "ends within its header"},
		{"safetensors_of_lies", "m.safetensors", engine.Safetensors,
			tensors(`{"a":{"data_offsets":[0,18446744073709551615]}}`, 1), ""},
		{"safetensors_of_no_json", "m.safetensors", engine.Safetensors, tensors("what", 1), ""},
		{"web_page_as_safetensors", "m.safetensors", engine.Safetensors, "<!DOCTYPE html>", "is not a file in safetensors: it is a web page"},
		{"refusal_as_safetensors", "m.safetensors", engine.Safetensors, "Entry not found", `it is a text: "Entry not found"`},
		{"zeros_as_safetensors", "m.safetensors", engine.Safetensors, strings.Repeat("\x00", 100), "it begins with zeros"},
		{"a_short_file", "m.safetensors", engine.Safetensors, "x\n", ""},
		{"gguf_for_vllm", "m.gguf", engine.Safetensors, "<html>", "is not a GGUF file"},
		{"configuration", "config.json", engine.Safetensors, "{}", ""},
		{"a_program_takes_anything", "m.gguf", engine.Anything, "<html>", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			flaw := bring.Damaged(path, int64(len(c.content)), c.by)
			if (flaw == nil) != (c.want == "") {
				t.Fatalf("%+v, want %q", flaw, c.want)
			}
			if flaw != nil && (!strings.HasPrefix(flaw.Text, "is ") || !strings.Contains(flaw.Text, c.want) ||
				flaw.Hint == "") {
				t.Errorf("%+v, want %q", flaw, c.want)
			}
		})
	}
}

// TestDamagedBesideTheModel: projectors, adapters and drafts are weights too, in each flag that
// names them, and in a directory.
func TestDamagedBesideTheModel(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "x.gguf")
	adapter := filepath.Join(dir, "adapter")
	if err := os.Mkdir(adapter, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, filepath.Join(adapter, "adapter_model.safetensors"),
		filepath.Join(dir, "t.jinja")} {
		if err := os.WriteFile(path, []byte(pointer), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(adapter, "__init__.py"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, kind string
		args       []string
		want       string
	}{
		{"projector", engine.LlamaCpp, []string{"--mmproj", bad}, "args[1] (--mmproj) is a git-lfs pointer"},
		{"draft", engine.LlamaCpp, []string{"--model_draft", bad}, "is a git-lfs pointer"},
		{"scaled_adapter", engine.LlamaCpp, []string{"--lora-scaled", bad + ":0.5"}, "is a git-lfs pointer"},
		{"adapter_directory", engine.VLLM, []string{"--lora-modules", "x=" + adapter}, "adapter_model.safetensors, which is a git-lfs pointer"},
		{"a_template_is_no_weights", engine.LlamaCpp, []string{"--chat-template-file", filepath.Join(dir, "t.jinja")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{ID: "x", Engine: c.kind, Model: "file:/m", Args: c.args}
			found, err := bring.Look(p)
			if err == nil {
				err = found.Damaged(p)
			}
			if c.want == "" && err == nil {
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || len(bring.Check(p)) != 1 {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
