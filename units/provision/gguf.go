package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/pool-managerd/pool-managerd/registry"
)

// shardName is how llama.cpp names the parts of a model (llama_split_path: "%s-%05d-of-%05d.gguf").
var shardName = regexp.MustCompile(`^(.*)-([0-9]{5})-of-([0-9]{5})(\.gguf|\.safetensors)$`)

// shards returns every part of the model that a path belongs to; a model in one file is its own only part.
func shards(path string) ([]string, error) {
	m := shardName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return []string{path}, nil
	}
	count, _ := strconv.Atoi(m[3])
	if m[2] != "00001" {
		return nil, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s is part %s of %s; an engine is given the first", path, m[2], m[3]),
			fmt.Sprintf("Name %s-00001-of-%s%s.", m[1], m[3], m[4]))
	}
	var paths []string
	var missing []string
	for i := 1; i <= count; i++ {
		part := filepath.Join(filepath.Dir(path), fmt.Sprintf("%s-%05d-of-%s%s", m[1], i, m[3], m[4]))
		if _, err := os.Stat(part); errors.Is(err, os.ErrNotExist) {
			missing = append(missing, filepath.Base(part))
			continue
		}
		paths = append(paths, part)
	}
	if len(missing) > 0 {
		return nil, registry.Fail(registry.CodeModelNotFound,
			fmt.Sprintf("model %s: %d of its %d parts are missing, %s first", path, len(missing), count, missing[0]),
			"Copy the missing parts into the same folder; the pool starts by itself once they are there.")
	}
	return paths, nil
}

// checkGGUF tells a download that went wrong from a model, by the magic number "GGUF" of the format's specification.
func checkGGUF(files []file) error {
	for _, f := range files {
		head, err := firstBytes(f.path, 64)
		if err != nil {
			return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s cannot be read: %v", f.path, err),
				"The manager is root without capabilities; the file must be readable by others (chmod o+r).")
		}
		if bytes.HasPrefix(head, []byte("GGUF")) {
			continue
		}
		what := "it does not begin with GGUF"
		switch {
		case bytes.HasPrefix(head, []byte("version https://git-lfs")):
			what = "it is a git-lfs pointer; the weights were not fetched"
		case bytes.HasPrefix(bytes.TrimSpace(bytes.ToLower(head)), []byte("<")):
			what = "it is a web page"
		}
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("model %s is no GGUF file: %s", f.path, what), "Fetch the file again.")
	}
	return nil
}

func firstBytes(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	head := make([]byte, n)
	got, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:got], nil
}
