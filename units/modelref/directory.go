package modelref

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
)

// Lengths of a directory's name, in bytes: NAME_MAX is 255, and what a person recognises is short.
const (
	maxReadable = 96
	hashDigits  = 12
)

// Directory returns the name of the artefact's directory in the cache: for hf that of
// huggingface_hub, so that its caches are shared; for the others the scheme, what a person
// recognises, and a hash of the whole. All revisions of a repository have one directory. It is one
// element of a path, never "." or "..", and empty for file.
func (r Ref) Directory() string {
	switch r.Scheme {
	case HF:
		return "models--" + strings.ReplaceAll(r.Repo, "/", "--")
	case HTTPS:
		file, _, _ := strings.Cut(r.Path, "?")
		return named(HTTPS, r.String(), r.Host, path.Base(file))
	case S3:
		return named(S3, r.Repo+"/"+r.Path, r.Repo, path.Base(r.Path))
	case OCI, Image:
		return named(r.Scheme, r.Host+"/"+r.Repo, r.Host, r.Repo)
	case File, "":
		return ""
	}
	return named(r.Scheme, r.String(), r.Path)
}

// named joins what a person recognises, in letters that need no quoting, and a hash of the whole.
func named(scheme, whole string, parts ...string) string {
	var readable strings.Builder
	for _, part := range parts {
		part = strings.ReplaceAll(part, "/", "--")
		readable.WriteString("--")
		readable.WriteString(strings.Map(func(c rune) rune {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune("._-", c):
				return c
			}
			return '_'
		}, part))
	}
	text := readable.String()
	if len(text) > maxReadable {
		text = text[:maxReadable]
	}
	sum := sha256.Sum256([]byte(whole))
	return scheme + text + "--" + hex.EncodeToString(sum[:])[:hashDigits]
}
