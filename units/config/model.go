package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// modelAllowed describes a model reference for messages.
const modelAllowed = `"file:" and an absolute path, or "hf:org/name/file.gguf" and the like`

// downloaded are the schemes of models that are downloaded.
var downloaded = []string{modelref.HF, modelref.HTTPS}

// wrongModel is why a text names no model: what continues "model …", and the hint.
type wrongModel struct{ what, hint string }

// modelOf reads a reference; described is the text as messages show it.
func modelOf(ref, described string) (pool.Model, *wrongModel) {
	scheme, rest, found := strings.Cut(ref, ":")
	switch {
	case strings.HasPrefix(ref, "/") && strict.OneLine(ref) == "":
		return "", &wrongModel{"is " + described, fmt.Sprintf("Write %s.", strict.Quote("file:"+ref))}
	case !found || !known(scheme):
		return "", &wrongModel{"does not begin with a scheme of models",
			"Write a model as \"file:/srv/models/a.gguf\"."}
	case slices.Contains(downloaded, scheme):
		return remoteModel(ref, described)
	case scheme != modelref.File:
		return "", &wrongModel{fmt.Sprintf("has the scheme %q, which is not available in this version", scheme),
			"Fetch the model by other means and name the file."}
	}
	if wrong := strict.Absolute(filePath(rest)); wrong != "" {
		return "", &wrongModel{"is " + described + ", which " + wrong, ""}
	}
	clean := path.Clean(filePath(rest))
	if clean == "/" {
		return "", &wrongModel{"is the root of the file system", ""}
	}
	if why := confine.Path(clean); why != "" {
		return "", &wrongModel{"is " + described + ", which " + why, "Rename the file or directory."}
	}
	return pool.Model("file:" + clean), nil
}

// remoteModel reads a reference to a model of another host.
func remoteModel(ref, described string) (pool.Model, *wrongModel) {
	r, err := modelref.Parse(ref)
	var e *modelref.Error
	if errors.As(err, &e) {
		return "", &wrongModel{"is " + described + ", which " + e.Problem, e.Hint}
	}
	return pool.Model(r.String()), nil
}

// Reference reads a model's reference and its digest from a request, by the rules of a pool file;
// both may be empty. The error is a *registry.Failure with code INVALID_PARAMS.
func Reference(ref, sum string) (pool.Model, error) {
	if sum != "" {
		if wrong := digest(sum); wrong != "" {
			return "", registry.Fail(registry.CodeInvalidParams, "model_digest "+wrong,
				`It is "sha256:" and 64 hex digits in small letters, as sha256sum prints them.`)
		}
	}
	if ref == "" {
		return "", nil
	}
	model, wrong := modelOf(ref, strict.Quote(ref))
	if wrong != nil {
		hint := wrong.hint
		if hint == "" {
			hint = "It is " + modelAllowed + "."
		}
		return "", registry.Fail(registry.CodeInvalidParams, "new_model_ref "+wrong.what, hint)
	}
	return model, nil
}
