package modelref

import (
	"errors"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Lengths are not in the patterns: for {0,94} the compiled one holds 94 copies of what is counted,
// and these took 330 KB in every manager.
var (
	// As the hub allows them (huggingface_hub, validate_repo_id).
	hfPart   = regexp.MustCompile(`^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$`)
	hfQuant  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	s3Bucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`)
	hostName = regexp.MustCompile(`^(?:[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)
	ociRepo  = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	ociTag   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
)

const hfForm = "Write hf:org/repo[@revision][/path/file.gguf], or hf:org/repo[@revision]:Q4_K_M."

func parseHF(text string) (r Ref, problem, hint string) {
	r.Scheme = HF
	org, rest, found := strings.Cut(text, "/")
	if !found {
		return r, "names no repository", hfForm
	}
	name := rest
	if i := strings.IndexAny(rest, "@/:"); i >= 0 {
		name, rest = rest[:i], rest[i:]
	} else {
		rest = ""
	}
	for _, part := range []string{org, name} {
		if len(part) > 96 || !hfPart.MatchString(part) || strings.Contains(part, "--") ||
			strings.Contains(part, "..") {
			return r, "names a repository that the hub cannot have", hfForm
		}
	}
	r.Repo = org + "/" + name
	if after, ok := strings.CutPrefix(rest, "@"); ok {
		end := strings.IndexAny(after, "/:")
		if end < 0 {
			end = len(after)
		}
		if r.Revision, problem = revision(after[:end]); problem != "" {
			return r, problem, `A revision is a branch, a tag or a commit, with "%2F" for each "/" in it.`
		}
		rest = after[end:]
	}
	switch {
	case rest == "":
	case rest[0] == ':':
		if r.Quant = rest[1:]; len(r.Quant) > 64 || !hfQuant.MatchString(r.Quant) {
			return r, "names no quantisation after the colon", hfForm
		}
	default:
		if r.Path = rest[1:]; !PlainPath(r.Path) || strings.Contains(r.Path, ":") {
			return r, "names no file in the repository", hfForm
		}
	}
	return r, "", ""
}

// revision reads a revision: a git reference without what git forbids (git-check-ref-format(1)).
func revision(text string) (rev, problem string) {
	rev, err := url.PathUnescape(text)
	if err != nil || !PlainPath(rev) || strings.ContainsAny(rev, " ~^:?*[\\") || strings.Contains(rev, "@{") ||
		strings.HasSuffix(rev, ".lock") {
		return "", "has a revision that git forbids"
	}
	return rev, ""
}

// PlainPath reports whether a relative path stays below where it begins, whatever it is joined to:
// no empty or dotted element, no control character, no backslash.
func PlainPath(p string) bool {
	if p == "" || len(p) > maxLength || strings.ContainsRune(p, '\\') || strings.ContainsRune(p, '\uFFFD') ||
		strings.ContainsFunc(p, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || part == "." || part == ".." || len(part) > 255 {
			return false
		}
	}
	return true
}

func parseHTTPS(text string) (r Ref, problem, hint string) {
	const form = "Write https://host/path/file.gguf."
	r.Scheme = HTTPS
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || !isHost(u.Host):
		return r, "is no URL", form
	case u.User != nil:
		return r, "contains a user or a password", "Secrets are not written into references."
	case u.Fragment != "" || strings.Contains(text, "#"):
		return r, `contains a "#"`, form
	case strings.ContainsRune(text, ' '):
		return r, "contains a space", "Write %20."
	}
	r.Host = strings.ToLower(u.Host)
	r.Path = text[strings.Index(text, "://")+3+len(u.Host):]
	name := path.Base(u.Path)
	if !strings.HasPrefix(r.Path, "/") || strings.HasSuffix(u.Path, "/") || !PlainPath(name) {
		return r, "names no file", form
	}
	return r, "", ""
}

// isHost reports whether a text is a host name or an address, with or without a port.
func isHost(host string) bool {
	if !hostName.MatchString(host) || len(host) > 253 {
		return false
	}
	u := url.URL{Host: host}
	if u.Port() == "" {
		return !strings.HasSuffix(host, ":")
	}
	n, err := strconv.Atoi(u.Port())
	return err == nil && n > 0 && n < 1<<16
}

func parseS3(text string) (r Ref, problem, hint string) {
	const form = `Write s3://bucket/key; with a "/" at its end, all objects below are meant.`
	r.Scheme = S3
	rest, found := strings.CutPrefix(text, "//")
	bucket, key, _ := strings.Cut(rest, "/")
	switch {
	case !found:
		return r, "names no bucket", form
	case len(bucket) > 63 || !s3Bucket.MatchString(bucket) || strings.Contains(bucket, ".."):
		return r, "names a bucket that cannot exist", form
	case !PlainPath(strings.TrimSuffix(key, "/")) || len(key) > 1024:
		return r, "names no object", form
	}
	r.Repo, r.Path = bucket, key
	return r, "", ""
}

// ParseImage reads the name of a container image: registry/repo[:tag][@sha256:…]. The error is an
// *Error.
func ParseImage(text string) (Ref, error) {
	r, err := Parse(Image + ":" + text)
	var wrong *Error
	if errors.As(err, &wrong) {
		wrong.Text = text
	}
	return r, err
}

func parseOCI(scheme, text string) (r Ref, problem, hint string) {
	form := "Write oci:host/name:tag, or oci:host/name@sha256:…."
	if scheme == Image {
		form = "Write host/name:tag, or host/name@sha256:…, with the registry's host, as docker.io/library/debian:13."
	}
	r.Scheme = scheme
	host, rest, found := strings.Cut(text, "/")
	if !found || !isHost(host) || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return r, "names no registry", form
	}
	r.Host = strings.ToLower(host)
	rest, digest, pinned := strings.Cut(rest, "@")
	if pinned && !isDigest(digest) {
		return r, "has a digest that is not sha256: and 64 hexadecimal digits", form
	}
	r.Digest = digest
	repo, tag, tagged := strings.Cut(rest, ":")
	switch {
	case !ociRepo.MatchString(repo) || len(repo) > 255:
		return r, "names a repository that no registry can have", form
	case tagged && (len(tag) > 128 || !ociTag.MatchString(tag)):
		return r, "has a tag that no registry can have", form
	}
	r.Repo, r.Revision = repo, tag
	return r, "", ""
}

func parseFile(text string) (r Ref, problem, hint string) {
	r.Scheme, r.Path = File, text
	if !strings.HasPrefix(text, "/") {
		return r, "is no absolute path", "Write file:/path/to/model.gguf."
	}
	return r, "", ""
}

// Names that no scheme of the host's own can have: other programs begin the names of their
// directories in the cache with these, or people would take them for the schemes of URLs.
var taken = [...]string{"http", "ftp", "models", "datasets", "spaces"}

var (
	ownScheme = regexp.MustCompile(`^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$`)
	ownText   = regexp.MustCompile(`^[!#-&(-\[\]-_a-~]+$`) // no space, quote or backslash
)

// OwnScheme returns what is wrong with the name of a scheme of the host's own, "" where nothing is.
func OwnScheme(name string) string {
	switch {
	case slices.Contains(schemes[:], name):
		return "is the name of a scheme of pool-fetch"
	case slices.Contains(taken[:], name):
		return "is a name that means something else"
	case len(name) < 2 || len(name) > 32 || !ownScheme.MatchString(name):
		return "is not a name of 2 to 32 small letters, digits and single dashes"
	}
	return ""
}

// parseOwn reads a reference for a program of the host's own, which alone knows what it means.
func parseOwn(scheme, text string) (r Ref, problem, hint string) {
	switch {
	case OwnScheme(scheme) != "":
		return r, "has an unknown scheme", "Begin it with file:, hf:, https:, s3: or oci:."
	case !ownText.MatchString(text):
		return r, "names nothing after " + scheme + ":, or has a space, a quote or a backslash",
			"Write " + scheme + ":NAME."
	}
	return Ref{Scheme: scheme, Path: text}, "", ""
}
