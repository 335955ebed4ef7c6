// Package modelref reads and prints references to models: where a model comes from, which part of
// it, and which revision.
//
// It owns their syntax, the name of an artefact's directory in the cache, and the hosts that the
// first request goes to. It must not know how anything is fetched: no I/O, no state.
package modelref

import (
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
)

// The schemes of references.
const (
	HF    = "hf"    // a repository of the Hugging Face hub: hf:org/repo[@rev][/path/file][:QUANT]
	HTTPS = "https" // one file: https://host[:port]/path
	S3    = "s3"    // an object, or with a "/" at its end all objects below: s3://bucket/key
	OCI   = "oci"   // an artifact of a registry: oci:registry/repo[:tag|@sha256:…]
	Image = "image" // a container image: image:registry/repo[:tag][@sha256:…]; no model
	File  = "file"  // a file or a directory of this host: file:/path
)

// A reference of any other scheme is fetched by a program of the host's own: NAME:TEXT. Only the
// host's configuration knows whether there is such a program.

var schemes = [...]string{HF, HTTPS, S3, OCI, Image, File}

// Ref is a reference, checked. The zero value refers to nothing.
type Ref struct {
	Scheme   string
	Host     string // https, oci: host name, with the port if there is one
	Repo     string // hf: org/name; s3: bucket; oci: repository
	Revision string // hf: branch, tag or commit, "" for main; oci: tag
	Digest   string // oci: sha256:…
	Path     string // hf: file in the repository; https: path and query; s3: key; file: absolute path; own: all
	Quant    string // hf: quantisation of GGUF files
}

// Error is a text that is no reference, with the reason and what to write instead.
type Error struct {
	Text, Problem, Hint string
}

func (e *Error) Error() string { return "model reference " + quoted(e.Text) + " " + e.Problem }

// quoted bounds what a message repeats of a text.
func quoted(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most] + "…"
	}
	return `"` + strings.ToValidUTF8(strings.Map(printable, text), "?") + `"`
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// maxLength is the longest reference in bytes: longer ones fit into no URL that servers accept.
const maxLength = 2048

// Parse reads a reference. The error is an *Error.
func Parse(text string) (Ref, error) {
	r, problem, hint := parse(text)
	if problem != "" {
		return Ref{}, &Error{text, problem, hint}
	}
	return r, nil
}

func parse(text string) (r Ref, problem, hint string) {
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case len(text) > maxLength:
		return r, "is too long", "A reference has at most 2048 bytes."
	case strings.ContainsFunc(text, func(c rune) bool { return printable(c) == '?' && c != '?' || c == '\uFFFD' }):
		return r, "contains a control character or is not UTF-8", "Write it in plain text."
	case !found:
		return r, "has no scheme", "Begin it with file:, hf:, https:, s3: or oci:."
	}
	switch scheme {
	case HF:
		return parseHF(rest)
	case HTTPS:
		return parseHTTPS(text)
	case S3:
		return parseS3(rest)
	case OCI:
		return parseOCI(OCI, rest)
	case Image:
		return parseOCI(Image, rest)
	case File:
		return parseFile(rest)
	case "http":
		return r, "is not encrypted", "Write https:."
	}
	return parseOwn(scheme, rest)
}

// String returns the reference in the form that Parse reads.
func (r Ref) String() string {
	switch r.Scheme {
	case HF:
		s := HF + ":" + r.Repo
		if r.Revision != "" {
			s += "@" + strings.ReplaceAll(strings.ReplaceAll(r.Revision, "%", "%25"), "/", "%2F")
		}
		if r.Path != "" {
			s += "/" + r.Path
		}
		if r.Quant != "" {
			s += ":" + r.Quant
		}
		return s
	case HTTPS:
		return HTTPS + "://" + r.Host + r.Path
	case S3:
		return S3 + "://" + r.Repo + "/" + r.Path
	case OCI, Image:
		s := r.Scheme + ":" + r.Host + "/" + r.Repo
		if r.Revision != "" {
			s += ":" + r.Revision
		}
		if r.Digest != "" {
			s += "@" + r.Digest
		}
		return s
	case "":
		return ""
	}
	return r.Scheme + ":" + r.Path
}

// Own reports whether a program of the host's own fetches the model.
func (r Ref) Own() bool { return r.Scheme != "" && !slices.Contains(schemes[:], r.Scheme) }

// Remote reports whether the model has to be fetched.
func (r Ref) Remote() bool { return r.Scheme != "" && r.Scheme != File }

// Pinned reports whether the reference always means the same bytes: a commit, or a digest.
func (r Ref) Pinned() bool {
	return (r.Scheme == OCI || r.Scheme == Image) && r.Digest != "" || r.Scheme == HF && isHex(r.Revision, 40)
}

// isHex reports whether s is n lower-case hexadecimal digits.
func isHex(s string, n int) bool {
	_, err := hex.DecodeString(s)
	return len(s) == n && err == nil && strings.ToLower(s) == s
}

// isDigest reports whether s is sha256: and 64 hexadecimal digits.
func isDigest(s string) bool {
	digits, found := strings.CutPrefix(s, "sha256:")
	return found && isHex(digits, 64)
}

// dockerHub are the names of Docker's registry, whose API is at none of the first two.
var dockerHub = map[string]string{"docker.io": "index.docker.io", "registry-1.docker.io": "index.docker.io"}

// Hosts returns the names of the hosts that the first request goes to, without ports. endpoint is
// the URL of the hub for hf and of the object store for s3; the others have it in the reference,
// and those of a program of the host's own are in its configuration.
func (r Ref) Hosts(endpoint string) ([]string, error) {
	host := r.Host
	switch r.Scheme {
	case HF, S3:
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, &Error{endpoint, "is no endpoint", "An endpoint is a URL, as https://huggingface.co."}
		}
		host = u.Host
	case OCI, Image:
		if hub, ok := dockerHub[host]; ok {
			return []string{hub, "auth.docker.io"}, nil
		}
	case HTTPS:
	default:
		return nil, nil
	}
	u := url.URL{Host: host}
	return []string{u.Hostname()}, nil
}
