package fetch

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// hubSource is the hub of Hugging Face, or a server that speaks as it does
// (https://huggingface.co/docs/hub/api, and the source of huggingface_hub).
type hubSource struct {
	*fetcher
	endpoint *url.URL
	token    string
	at       string // the commit
}

func newHub(f *fetcher) (*hubSource, error) {
	u, err := url.Parse(strings.TrimSuffix(f.request.Endpoint, "/"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "endpoint is no URL",
			Hint: "Write https://huggingface.co."}
	}
	return &hubSource{fetcher: f, endpoint: u, token: f.secrets.HubToken}, nil
}

// maxPlain is the size above which the hub serves a file by Xet alone (huggingface_hub,
// MAX_HTTP_DOWNLOAD_SIZE).
const maxPlain = 50_000_000_000

var (
	commitForm = regexp.MustCompile(`^[0-9a-f]{40}$`)
	sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (h *hubSource) plan(ctx context.Context) (plan, error) {
	p := plan{revision: h.ref.Revision}
	if h.ref.Pinned() {
		p.commit, p.revision = h.ref.Revision, ""
	} else if p.revision == "" {
		p.revision = "main"
	}
	var err error
	if p.tree = h.cache.tree(p.commit); p.tree == nil {
		if p.commit == "" {
			if p.commit, err = h.commit(ctx, p.revision); err != nil {
				return p, err
			}
		}
		if p.tree, err = h.tree(ctx, p.commit); err != nil {
			return p, err
		}
	}
	h.at = p.commit
	if p.files, p.open, err = choose(h.ref, p.tree); err != nil {
		return p, err
	}
	return p, h.plainlyServed(p.files)
}

// plainlyServed refuses files that the hub does not serve by plain HTTP, before a byte is moved.
func (h *hubSource) plainlyServed(files []*file) error {
	for _, f := range files {
		if f.size <= maxPlain || f.xet == "" && h.endpoint.Hostname() != "huggingface.co" || h.cache.has(f) {
			continue
		}
		return &Failure{Reason: wire.TooLarge,
			Message: fmt.Sprintf("%s has %d bytes; the hub serves files above 50 GB by Xet alone, which pool-fetch "+
				"does not speak", f.path, f.size),
			Hint: "Name a repository with smaller files (shards), or download it with the hf program into cache_dir: " +
				"what is there is used."}
	}
	return nil
}

// api returns the address of something of the hub's API about the repository.
func (h *hubSource) api(parts ...string) *url.URL {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	u, err := h.endpoint.Parse(h.endpoint.Path + "/api/models/" + h.ref.Repo + "/" + strings.Join(parts, "/"))
	if err != nil {
		return h.endpoint // cannot happen: all parts are escaped
	}
	return u
}

// resolve returns the address of a file.
func (h *hubSource) resolve(revision, file string) *url.URL {
	escaped := (&url.URL{Path: file}).EscapedPath()
	if strings.Contains(file, ":") {
		escaped = strings.ReplaceAll(escaped, ":", "%3A")
	}
	u, err := h.endpoint.Parse(strings.Join([]string{h.endpoint.Path, h.ref.Repo, "resolve", url.PathEscape(revision),
		escaped}, "/"))
	if err != nil {
		return h.endpoint // cannot happen: all parts are escaped
	}
	return u
}

func (h *hubSource) header() http.Header {
	header := make(http.Header)
	if h.token != "" {
		header.Set("Authorization", "Bearer "+h.token)
	}
	return header
}

// commit returns what a branch or a tag means now: of a file from its head, as the hub's own client
// does, and of a repository from its description.
func (h *hubSource) commit(ctx context.Context, revision string) (commit string, err error) {
	err = h.retry(ctx, func() (bool, error) {
		if h.ref.Path != "" {
			resp, _, err := h.head(ctx, h.resolve(revision, h.ref.Path))
			if err != nil {
				return false, err
			}
			commit = resp.Header.Get("X-Repo-Commit")
			return false, nil
		}
		var about struct {
			SHA string `json:"sha"`
		}
		_, err := h.get(ctx, h.api("revision", revision), &about)
		commit = about.SHA
		return false, err
	})
	if err == nil && !commitForm.MatchString(commit) {
		return "", badAnswer(h.endpoint.Hostname(), "names no commit for the revision %s", revision)
	}
	return commit, err
}

// get reads JSON.
func (h *hubSource) get(ctx context.Context, u *url.URL, into any) (http.Header, error) {
	resp, at, err := h.client.follow(ctx, http.MethodGet, u, h.header())
	if err != nil {
		return nil, err
	}
	defer discard(resp)
	if err := h.refused(resp); err != nil {
		return nil, err
	}
	return resp.Header, readJSON(at.Hostname(), resp, into)
}

// head asks for the head of a file. It follows redirects on the hub alone, as those of a renamed
// repository; one to another host is the answer, and its address the second result.
func (h *hubSource) head(ctx context.Context, u *url.URL) (*http.Response, *url.URL, error) {
	for range maxRedirects {
		resp, err := h.client.do(ctx, http.MethodHead, u, h.header())
		if err != nil {
			return nil, nil, err
		}
		resp.Body.Close()
		if !redirects(resp) {
			if err := h.refused(resp); err != nil {
				return nil, nil, err
			}
			return resp, u, nil
		}
		next, err := target(u, resp)
		if err != nil {
			return nil, nil, err
		}
		if !sameOrigin(u, next) || resp.Header.Get("X-Linked-Etag") != "" {
			return resp, next, nil
		}
		u = next
	}
	return nil, nil, badAnswer(u.Hostname(), "redirects more than %d times", maxRedirects)
}

// place asks where a file is, and checks that the hub still means the same file.
func (h *hubSource) place(ctx context.Context, f *file) (place, error) {
	resp, at, err := h.head(ctx, h.resolve(h.at, f.path))
	if err != nil {
		return place{}, err
	}
	host := h.endpoint.Hostname()
	etag, linked := plainETag(resp.Header.Get("X-Linked-Etag")), true
	if etag == "" {
		etag, linked = plainETag(resp.Header.Get("ETag")), false
	}
	if etag != "" && etag != f.blob {
		return place{}, badAnswer(host, "lists %s as %s, and describes it as %.64s", f.path, f.blob, etag)
	}
	size := resp.Header.Get("X-Linked-Size")
	if size == "" && !linked && !redirects(resp) && resp.ContentLength >= 0 {
		size = strconv.FormatInt(resp.ContentLength, 10)
	}
	if size != "" && size != strconv.FormatInt(f.size, 10) {
		return place{}, badAnswer(host, "lists %s with %d bytes, and describes it with %.20s", f.path, f.size, size)
	}
	p := place{url: at, signed: redirects(resp)}
	if sameOrigin(at, h.endpoint) {
		p.header = h.header()
	}
	return p, nil
}

// plainETag removes what makes an entity tag of a name (RFC 9110, 8.8.3).
func plainETag(s string) string { return strings.Trim(strings.TrimPrefix(s, "W/"), `"`) }

// tree lists all files of a commit.
func (h *hubSource) tree(ctx context.Context, commit string) ([]*file, error) {
	u := h.api("tree", commit)
	u.RawQuery = "recursive=true&expand=false"
	var files []*file
	for u != nil {
		var page []entry
		var next *url.URL
		err := h.retry(ctx, func() (bool, error) {
			header, err := h.get(ctx, u, &page)
			if err == nil {
				next, err = nextPage(u, header)
			}
			return false, err
		})
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if e.Type != "file" {
				continue
			}
			f, ok := e.file()
			if !ok || len(files) == maxFiles {
				return nil, badAnswer(h.endpoint.Hostname(), "lists files that no repository has")
			}
			files = append(files, f)
		}
		if next != nil && (next.String() == u.String() || len(page) == 0) {
			return nil, badAnswer(h.endpoint.Hostname(), "sent a list without an end")
		}
		u = next
	}
	return files, nil
}

// maxFiles bounds a repository; the hub itself recommends at most 100,000.
const maxFiles = 100_000

// entry is one of a tree.
type entry struct {
	Type string `json:"type"`
	Path string `json:"path"`
	Size int64  `json:"size"`
	OID  string `json:"oid"`
	Xet  string `json:"xetHash"`
	LFS  *struct {
		OID  string `json:"oid"`
		Size int64  `json:"size"`
	} `json:"lfs"`
}

// maxFile bounds the size of one file, in bytes.
const maxFile = 1 << 50

func (e entry) file() (*file, bool) {
	f := &file{path: e.Path, size: e.Size, blob: e.OID, git: e.OID, xet: e.Xet, sum: sum{byGit, e.OID}}
	if e.LFS != nil {
		f.size, f.blob, f.sum = e.LFS.Size, e.LFS.OID, sum{bySHA256, e.LFS.OID}
	}
	return f, f.plausible()
}

// plausible reports whether what was listed of a file can be trusted with a path and a size.
func (f *file) plausible() bool {
	form := commitForm
	if f.sum.algorithm == bySHA256 {
		form = sha256Form
	}
	return modelref.PlainPath(f.path) && path.Clean(f.path) == f.path && f.size >= 0 && f.size <= maxFile &&
		form.MatchString(f.sum.hex) && f.blob == f.sum.hex && len(f.xet) <= 128
}

// refused explains an answer of the hub by what it says beside its status.
func (h *hubSource) refused(resp *http.Response) error {
	host := h.endpoint.Hostname()
	f := refused(host, resp)
	if f == nil {
		return nil
	}
	said := wire.Text(resp.Header.Get("X-Error-Message"), 200)
	what := h.ref.Repo
	switch code := resp.Header.Get("X-Error-Code"); {
	case code == "GatedRepo":
		f.Reason = wire.Gated
		f.Message = fmt.Sprintf("%s: %s is gated: its owner has to accept each user", host, what)
		f.Hint = fmt.Sprintf("Accept the conditions at %s/%s with the account of the token in hf_token_file.",
			h.endpoint, what)
		return f
	case code == "RevisionNotFound":
		f.Reason, f.Message = wire.NotFound, fmt.Sprintf("%s: %s has no revision %q", host, what, h.ref.Revision)
		f.Hint = "Name a branch, a tag or a commit of the repository."
		return f
	case code == "EntryNotFound":
		f.Reason, f.Message = wire.NotFound, fmt.Sprintf("%s: %s has no file %s", host, what, h.ref.Path)
		f.Hint = "Check its name, with upper and lower case."
		return f
	case code == "RepoNotFound" || resp.StatusCode == http.StatusUnauthorized:
		h.refusedRepo(f, said)
		return f
	case resp.StatusCode == http.StatusForbidden:
		f.Message = fmt.Sprintf("%s: the token may not read %s", host, what)
		f.Hint = "Give the token the right to read this repository."
	}
	if said != "" {
		f.Message += ": " + said
	}
	return f
}

// refusedRepo explains a repository that the hub does not show: it does not say whether there is
// one.
func (h *hubSource) refusedRepo(f *Failure, said string) {
	host, what := h.endpoint.Hostname(), h.ref.Repo
	switch {
	case strings.Contains(said, "Invalid credentials"):
		f.Reason, f.Message = wire.Unauthorized, host+": the token is not valid"
		f.Hint = "Put a token that has not expired into hf_token_file."
	case h.token == "":
		f.Reason, f.Message = wire.NotFound, fmt.Sprintf("%s: %s does not exist, or it is private", host, what)
		f.Hint = "Check the name; for a private repository, name a token by hf_token_file."
	default:
		f.Reason = wire.NotFound
		f.Message = fmt.Sprintf("%s: %s does not exist, or the token may not see it", host, what)
		f.Hint = "Check the name, and that the token's account may read the repository."
	}
}
