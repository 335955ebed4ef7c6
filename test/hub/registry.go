package hub

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	registry "github.com/google/go-containerregistry/pkg/registry"
)

// Registry is the registry of go-containerregistry with what real ones have in front: tokens that
// expire, and another host for blobs.
type Registry struct {
	Base   string // URL, set before it serves
	Realm  string // URL of the host that hands out tokens; "": Base
	CDN    string // URL of the other host; "": none
	Auth   string // "user:password" that a token takes; "": none
	Tokens int    // uses of each token; 0: any number

	handler http.Handler

	mu    sync.Mutex
	given int
	used  int
	leaks []string
	blobs map[string][]byte
}

// NewRegistry makes a registry of nothing.
func NewRegistry() *Registry {
	return &Registry{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), blobs: make(map[string][]byte)}
}

// Given returns how many tokens were handed out.
func (r *Registry) Given() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given
}

// Leaks returns the requests by which a token reached the other host.
func (r *Registry) Leaks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.leaks)
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case req.URL.Path == "/token":
		if user, password, _ := req.BasicAuth(); user+":"+password != r.Auth {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		r.given++
		r.used = 0
		fmt.Fprintf(w, `{"token":"t%d"}`, r.given)
		return
	case r.Auth != "":
		r.used++
		if req.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", r.given) || r.Tokens > 0 && r.used > r.Tokens {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+cmp.Or(r.Realm, r.Base)+`/token",service="registry"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
	}
	if _, digest, found := strings.Cut(req.URL.Path, "/blobs/"); found && r.CDN != "" && r.blobs[digest] != nil {
		http.Redirect(w, req, r.CDN+"/"+digest, http.StatusTemporaryRedirect)
		return
	}
	r.handler.ServeHTTP(w, req)
}

// CDNHandler serves the blobs, on the other host.
func (r *Registry) CDNHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		if req.Header.Get("Authorization") != "" {
			r.leaks = append(r.leaks, req.URL.Path)
		}
		data := r.blobs[strings.TrimPrefix(req.URL.Path, "/")]
		r.mu.Unlock()
		http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
	})
}

// Blob puts a blob into a repository, and returns its digest.
func (r *Registry) Blob(repo string, data []byte) (digest string, err error) {
	sum := sha256.Sum256(data)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	r.mu.Lock()
	r.blobs[digest] = data
	r.mu.Unlock()
	return digest, r.put(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest, "", data)
}

// Manifest puts a manifest into a repository, and returns its digest.
func (r *Registry) Manifest(repo, tag, mediaType string, data []byte) (digest string, err error) {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:]),
		r.put(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, data)
}

func (r *Registry) put(method, path, mediaType string, data []byte) error {
	req := httptest.NewRequest(method, path, bytes.NewReader(data))
	req.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	if w.Code != http.StatusCreated {
		return fmt.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return nil
}

// Model puts files into a repository, as an artefact of the CNCF's ModelPack.
func (r *Registry) Model(repo, tag string, files map[string][]byte) error {
	type layer struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	put := func(mediaType string, data []byte) (layer, error) {
		digest, err := r.Blob(repo, data)
		return layer{MediaType: mediaType, Digest: digest, Size: len(data)}, err
	}
	config, err := put("application/vnd.cncf.model.config.v1+json", []byte("{}"))
	if err != nil {
		return err
	}
	var layers []layer
	for _, name := range slices.Sorted(maps.Keys(files)) {
		l, err := put("application/vnd.cncf.model.weight.v1.raw", files[name])
		if err != nil {
			return err
		}
		l.Annotations = map[string]string{"org.cncf.model.filepath": name}
		layers = append(layers, l)
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	data, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "config": config,
		"layers": layers})
	if err != nil {
		return err
	}
	_, err = r.Manifest(repo, tag, mediaType, data)
	return err
}
