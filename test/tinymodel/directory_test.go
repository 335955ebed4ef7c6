package tinymodel_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// TestWriteDirectory: what the engines of Python load, the same for the same seed.
func TestWriteDirectory(t *testing.T) {
	dirs := map[string]uint64{"one": 1, "again": 1, "other": 2}
	weights := map[string][]byte{}
	for name, seed := range dirs {
		dir := filepath.Join(t.TempDir(), name)
		if err := tinymodel.WriteDirectory(dir, seed); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{
			"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
		} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil || !json.Valid(text) {
				t.Errorf("%s: %v, valid %t", file, err, json.Valid(text))
			}
		}
		var err error
		if weights[name], err = os.ReadFile(filepath.Join(dir, "model.safetensors")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(weights["one"], weights["again"]) || bytes.Equal(weights["one"], weights["other"]) {
		t.Error("the weights do not follow the seed")
	}
	body := weights["one"]
	length := binary.LittleEndian.Uint64(body)
	var header map[string]struct {
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(body[8:8+length], &header); err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, tensor := range header {
		last = max(last, tensor.Offsets[1])
	}
	if got := 8 + int(length) + last; got != len(body) || (8+length)%8 != 0 {
		t.Errorf("the header describes %d bytes of %d", got, len(body))
	}
}
