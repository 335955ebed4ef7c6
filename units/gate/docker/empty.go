package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
)

// empty is the image of each container: one without a file, made here. docker starts nothing but
// images of its own store, and the engine's files are mounts.
const empty = "pool-managerd/empty:1"

// load gives docker the empty image, where it does not have it.
func (c Container) load(ctx context.Context) error {
	if c.client(ctx, "image", "inspect", "--format={{.Id}}", empty).Run() == nil {
		return nil
	}
	archive, err := emptyImage(runtime.GOARCH)
	if err != nil {
		return err
	}
	cmd := c.client(ctx, "load", "--quiet")
	cmd.Stdin = bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("docker load: %w", err), errors.New(strings.TrimSpace(string(out))))
	}
	return nil
}

// emptyImage is the archive of the empty image, as docker save writes it. It has one layer, without
// a file: docker takes no image without one.
func emptyImage(arch string) ([]byte, error) {
	layer := make([]byte, 1024) // the end of an archive
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{"architecture": arch, "os": "linux", "config": map[string]any{},
		"history": []map[string]any{{"created_by": "pool-managerd"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}}})
	if err != nil {
		return nil, err
	}
	of := sha256.Sum256(config)
	name := hex.EncodeToString(of[:]) + ".json"
	manifest, err := json.Marshal([]map[string]any{
		{"Config": name, "RepoTags": []string{empty}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, file := range []struct {
		name    string
		content []byte
	}{{"layer.tar", layer}, {name, config}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o644, Size: int64(len(file.content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(file.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
