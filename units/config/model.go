package config

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// modelAllowed describes a model reference for messages.
const modelAllowed = `"file:" and an absolute path, or "hf:org/name/file.gguf" and the like`

// wrongModel is why a text names no model: what continues "model …", and the hint.
type wrongModel struct{ what, hint string }

// modelOf reads a reference; described is the text as messages show it.
func (p Provisioning) modelOf(ref, described string) (pool.Model, *wrongModel) {
	scheme, rest, found := strings.Cut(ref, ":")
	switch {
	case strings.HasPrefix(ref, "/") && strict.OneLine(ref) == "":
		return "", &wrongModel{"is " + described, fmt.Sprintf("Write %s.", strict.Quote("file:"+ref))}
	case !found || !p.fetches(scheme):
		return "", &wrongModel{"does not begin with a scheme of models", unknownScheme(ref)}
	case scheme != modelref.File:
		return remoteModel(ref, described)
	}
	return fileModel(filePath(rest), described, p.ModelRoot)
}

// fileModel reads the path of a file: absolute, or below the host's model_root.
func fileModel(name, described, root string) (pool.Model, *wrongModel) {
	if below := name != "" && !strings.HasPrefix(name, "/"); below && root != "" {
		if !filepath.IsLocal(name) {
			return "", &wrongModel{"is " + described + ", which leads out of model_root, " + root, ""}
		}
		name = path.Join(root, name)
	} else if below {
		return "", &wrongModel{"is " + described + ", which is not an absolute path",
			"Write the absolute path, or set model_root under [provisioning] in config.toml, below which a name " +
				"without a / at its beginning is."}
	}
	if wrong := strict.Absolute(name); wrong != "" {
		return "", &wrongModel{"is " + described + ", which " + wrong, ""}
	}
	clean := path.Clean(name)
	if clean == "/" {
		return "", &wrongModel{"is the root of the file system", ""}
	}
	if why := confine.Path(clean); why != "" {
		return "", &wrongModel{"is " + described + ", which " + why, "Rename the file or directory."}
	}
	return pool.Model("file:" + clean), nil
}

// prefetched is the check of an entry of prefetch.
func prefetched(s string) string {
	scheme, _, found := strings.Cut(s, ":")
	if !found || scheme == modelref.File || scheme == modelref.Image {
		return "is no model that is downloaded (hf:, https:, s3:, oci:)"
	}
	var e *modelref.Error
	if _, err := modelref.Parse(s); errors.As(err, &e) {
		return e.Problem
	}
	return ""
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

// Reference reads a model's reference and its digest from a request, by the rules of a pool file
// and of the host; both may be empty. The error is a *registry.Failure with code
// INVALID_PARAMS.
func Reference(ref, sum string, h Provisioning) (pool.Model, error) {
	if sum != "" {
		if wrong := digest(sum); wrong != "" {
			return "", registry.Fail(registry.CodeInvalidParams, "model_digest "+wrong,
				`It is "sha256:" and 64 hex digits in small letters, as sha256sum prints them.`)
		}
	}
	if ref == "" {
		return "", nil
	}
	model, wrong := h.modelOf(ref, strict.Quote(ref))
	if wrong != nil {
		hint := wrong.hint
		if hint == "" {
			hint = "It is " + modelAllowed + "."
		}
		return "", registry.Fail(registry.CodeInvalidParams, "new_model_ref "+wrong.what, hint)
	}
	return model, nil
}
