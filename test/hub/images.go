package hub

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Media types of an image.
const (
	imageManifest = "application/vnd.oci.image.manifest.v1+json"
	configType    = "application/vnd.oci.image.config.v1+json"
	layerType     = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// Image puts an image into the registry. The files *.tar.gz of the directory are its layers, in
// their order, and each line of the file "entrypoint" is a word of its entry point.
func (r *Registry) Image(name, dir string) (digest string, err error) {
	repo, tag, found := strings.Cut(name, ":")
	if !found {
		return "", fmt.Errorf("%s has no tag", name)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tar.gz"))
	if err != nil {
		return "", err
	}
	var layers []map[string]any
	var diffs []string
	for _, file := range files {
		packed, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		plain, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return "", err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, plain); err != nil {
			return "", err
		}
		diffs = append(diffs, "sha256:"+hex.EncodeToString(sum.Sum(nil)))
		l, err := r.imageBlob(repo, layerType, packed)
		if err != nil {
			return "", err
		}
		layers = append(layers, l)
	}
	words, err := os.ReadFile(filepath.Join(dir, "entrypoint"))
	if err != nil {
		return "", err
	}
	config, err := json.Marshal(map[string]any{"os": "linux", "architecture": runtime.GOARCH,
		"config": map[string]any{"Entrypoint": strings.Fields(string(words)), "Env": []string{"IMAGE=" + name}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})
	if err != nil {
		return "", err
	}
	c, err := r.imageBlob(repo, configType, config)
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": imageManifest, "config": c,
		"layers": layers})
	if err != nil {
		return "", err
	}
	return r.Manifest(repo, tag, imageManifest, manifest)
}

func (r *Registry) imageBlob(repo, mediaType string, data []byte) (map[string]any, error) {
	digest, err := r.Blob(repo, data)
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(data)}, err
}

// Slowly serves as next does, at most that many bytes a second.
func Slowly(next http.Handler, rate int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(slow{w, rate}, r)
	})
}

type slow struct {
	http.ResponseWriter
	rate int
}

func (s slow) Write(p []byte) (written int, err error) {
	const parts = 20 // a second
	for len(p) > 0 && err == nil {
		var n int
		n, err = s.ResponseWriter.Write(p[:min(len(p), max(s.rate/parts, 1))])
		written, p = written+n, p[n:]
		time.Sleep(time.Duration(n) * time.Second / time.Duration(s.rate))
	}
	return written, err
}
