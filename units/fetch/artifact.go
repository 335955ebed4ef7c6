package fetch

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// artifactManifest is what is read of a manifest (OCI image specification).
type artifactManifest struct {
	MediaType    string  `json:"mediaType"`
	ArtifactType string  `json:"artifactType"`
	Config       layer   `json:"config"`
	Layers       []layer `json:"layers"`
	Manifests    []layer `json:"manifests"`
}

type layer struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
	} `json:"platform"`
}

// Types of models as artifacts: the CNCF's ModelPack and Docker's.
const (
	packConfig   = "application/vnd.cncf.model.config.v1+json"
	packManifest = "application/vnd.cncf.model.manifest.v1+json"
	dockerConfig = "application/vnd.docker.ai.model.config."
	fileName     = "org.cncf.model.filepath" // of both
)

// artifact returns the files of a model's manifest. Each layer is one file, and its digest that of
// the file.
func artifact(ref string, data []byte) ([]*file, error) {
	var m artifactManifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, badAnswer("the registry", "sent no manifest")
	}
	switch {
	case len(m.Manifests) > 0:
		return nil, &Failure{Reason: wire.BadRequest, Message: ref + " is a list of several artifacts",
			Hint: "Name one of them by its digest."}
	case m.ArtifactType != packManifest && m.Config.MediaType != packConfig &&
		!strings.HasPrefix(m.Config.MediaType, dockerConfig):
		return nil, &Failure{Reason: wire.BadRequest,
			Message: fmt.Sprintf("%s is no model: its type is %.80q", ref, wire.Text(m.Config.MediaType, 80)),
			Hint:    "Models are of the types of CNCF's ModelPack and of Docker's models."}
	}
	count := make(map[string]int)
	for _, l := range m.Layers {
		count[l.MediaType]++
	}
	nth := make(map[string]int)
	names := make(map[string]bool)
	var files []*file
	for _, l := range m.Layers {
		nth[l.MediaType]++
		f, err := l.file(ref, nth[l.MediaType], count[l.MediaType])
		if err != nil {
			return nil, err
		}
		if names[f.path] || !f.plausible() || len(files) == maxFiles {
			return nil, badAnswer("the registry", "sent a manifest with layers that cannot be files")
		}
		names[f.path] = true
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, &Failure{Reason: wire.NotFound, Message: ref + " has no files", Hint: "Check the tag."}
	}
	return files, nil
}

// file returns a layer as a file: the n. of so many of its type.
func (l layer) file(ref string, n, of int) (*file, error) {
	if strings.Contains(l.MediaType, ".tar") {
		return nil, &Failure{Reason: wire.BadRequest,
			Message: fmt.Sprintf("%s has a layer that is packed (%.80s)", ref, wire.Text(l.MediaType, 80)),
			Hint:    "pool-fetch takes models whose layers are single files: pack it with raw layers."}
	}
	digest := strings.TrimPrefix(l.Digest, "sha256:")
	name := l.Annotations[fileName]
	if name == "" {
		name = l.unnamed(n, of)
	}
	return &file{path: name, size: l.Size, blob: digest, git: digest, sum: sum{bySHA256, digest}}, nil
}

// unnamed returns the name of a layer of Docker's, by its type; parts are named as llama.cpp and
// transformers look for them.
func (l layer) unnamed(n, of int) string {
	kind := strings.TrimPrefix(l.MediaType, "application/vnd.docker.ai.")
	kind = strings.TrimPrefix(kind, "application/vnd.cncf.model.weight.v1.")
	base, end := "file", ""
	switch {
	case strings.HasSuffix(kind, "mmproj"):
		base, end = "mmproj", ".gguf"
	case strings.HasSuffix(kind, "lora"):
		base, end = "lora", ".gguf"
	case strings.HasPrefix(kind, "gguf"):
		base, end = "model", ".gguf"
	case kind == "safetensors":
		base, end = "model", ".safetensors"
	case kind == "dduf":
		base, end = "model", ".dduf"
	case kind == "license":
		base = "LICENSE"
	case kind == "chat.template.jinja":
		base, end = "chat_template", ".jinja"
	}
	switch {
	case of == 1:
		return base + end
	case base == "model":
		return fmt.Sprintf("%s-%05d-of-%05d%s", base, n, of, end)
	}
	return fmt.Sprintf("%s-%d%s", base, n, end)
}
