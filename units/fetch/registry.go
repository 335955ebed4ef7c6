package fetch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// registry is a registry of OCI artifacts. Tokens are those of go-containerregistry; what is large
// is fetched from the addresses that the registry redirects to.
type registry struct {
	*fetcher
	repo name.Repository
	auth authn.Authenticator
	wire *seen

	mu  sync.Mutex
	api http.RoundTripper // with a token; nil until the first request
}

func newRegistry(f *fetcher) (*registry, error) {
	repo, err := name.NewRepository(f.ref.Host + "/" + f.ref.Repo)
	if err != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "the reference names no repository", Err: err,
			Hint: "Write oci:host/name:tag."}
	}
	under := &seen{client: f.client, host: repo.RegistryStr()}
	r := &registry{fetcher: f, repo: repo, auth: authn.Anonymous, wire: under}
	if f.secrets.Registry != "" {
		r.auth, err = registryAuth(f.secrets.Registry, f.ref.Host, repo.RegistryStr())
	}
	return r, err
}

// registryAuth reads the credentials of a host from the form of auth.json, which podman, skopeo and
// docker keep (containers-auth.json(5)).
func registryAuth(text string, hosts ...string) (authn.Authenticator, error) {
	var all struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "registry-auth is no JSON of the form of auth.json",
			Hint: "Copy the file that podman login or docker login wrote."}
	}
	for _, host := range append(hosts, "https://"+hosts[1]+"/v1/") { // as docker login names its own hub
		if c, ok := all.Auths[host]; ok {
			return authn.FromConfig(c), nil
		}
	}
	return authn.Anonymous, nil
}

// seen is the transport under that of go-containerregistry: pinned as all connections are, and it
// notes the authorization of the last request to the registry.
type seen struct {
	client *client
	host   string

	mu            sync.Mutex
	authorization string
}

func (s *seen) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == s.host {
		s.mu.Lock()
		s.authorization = r.Header.Get("Authorization")
		s.mu.Unlock()
	}
	return s.client.send(r)
}

// last returns the authorization of the last request to the registry.
func (s *seen) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.authorization
}

// ask sends a request for something of the repository, with a token. Redirects are not followed.
func (r *registry) ask(ctx context.Context, method, what string, header http.Header) (*http.Response, error) {
	api, err := r.loggedIn(ctx)
	if err != nil {
		return nil, r.explain(err)
	}
	// The scheme is set below: plain HTTP for a registry of this host or of a private network.
	u := &url.URL{Scheme: "https", Host: r.repo.RegistryStr(), Path: "/v2/" + r.repo.RepositoryStr() + "/" + what}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := api.RoundTrip(req)
	if err != nil {
		return nil, r.explain(err)
	}
	return resp, nil
}

// loggedIn returns what adds a token to requests.
func (r *registry) loggedIn(ctx context.Context) (http.RoundTripper, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.api != nil {
		return r.api, nil
	}
	api, err := transport.NewWithContext(ctx, r.repo.Registry, r.auth, r.wire,
		[]string{r.repo.Scope(transport.PullScope)})
	if err == nil {
		r.api = api
	}
	return api, err
}

// explain classifies an error of go-containerregistry.
func (r *registry) explain(err error) error {
	var f *Failure
	var answer *transport.Error
	host := r.repo.RegistryStr()
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer):
		return r.refused(&http.Response{StatusCode: answer.StatusCode, Header: http.Header{}})
	}
	return &Failure{Reason: wire.Network, Message: host + " cannot be asked for a token", Err: err, again: true,
		Hint: "Check the network."}
}

// refused explains an answer of the registry.
func (r *registry) refused(resp *http.Response) error {
	f := refused(r.repo.RegistryStr(), resp)
	if f == nil {
		return nil
	}
	switch {
	case f.Reason == wire.Unauthorized:
		f.Message = fmt.Sprintf("%s: %s does not exist, or may not be read (%d)", r.repo.RegistryStr(),
			r.repo.RepositoryStr(), resp.StatusCode)
		f.Hint = "Check the name; for a private repository, log in with podman and name its auth.json by " +
			"registry_auth_file."
	case f.Reason == wire.NotFound:
		f.Message = fmt.Sprintf("%s does not exist (%d)", r.ref, resp.StatusCode)
		f.Hint = "Check the name and the tag."
	}
	return f
}

// maxManifest bounds a manifest: registries accept 4 MiB.
const maxManifest = 4 << 20

// manifest reads a manifest by its tag or digest.
func (r *registry) manifest(ctx context.Context, by, types string) (data []byte, digest string, err error) {
	err = r.retry(ctx, func() (bool, error) {
		resp, err := r.ask(ctx, http.MethodGet, "manifests/"+by, http.Header{"Accept": {types}})
		if err != nil {
			return false, err
		}
		defer discard(resp)
		if err := r.refused(resp); err != nil {
			return false, err
		}
		data, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
		if err == nil && len(data) > maxManifest {
			err = badAnswer(r.repo.RegistryStr(), "sent a manifest of more than %d bytes", maxManifest)
		}
		return false, err
	})
	sum := sha256.Sum256(data)
	digest = "sha256:" + hex.EncodeToString(sum[:])
	if err == nil && strings.HasPrefix(by, "sha256:") && digest != by {
		return nil, "", &Failure{Reason: wire.DigestMismatch,
			Message: fmt.Sprintf("%s sent a manifest with the digest %s; %s was asked for", r.repo.RegistryStr(),
				digest, by),
			Hint: "The registry, or what is before it, changes manifests: use another one."}
	}
	return data, digest, err
}

// artifactTypes are the manifests of models that are accepted.
const artifactTypes = "application/vnd.oci.image.manifest.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json"

func (r *registry) plan(ctx context.Context) (p plan, err error) {
	by := r.ref.Digest
	if by == "" {
		by = r.ref.Branch()
		p.revision = by
	} else if p.commit = modelref.CommitOf(by); r.cached(&p) {
		return p, nil
	}
	data, digest, err := r.manifest(ctx, by, artifactTypes)
	if err != nil {
		return p, err
	}
	p.commit = modelref.CommitOf(digest)
	if p.tree, err = artifact(r.ref.String(), data); err != nil {
		return p, err
	}
	sortFiles(p.tree)
	p.files, p.open, err = choose(r.ref, p.tree)
	return p, err
}

// cached takes what a former run listed of the same digest.
func (r *registry) cached(p *plan) bool {
	if p.tree = r.cache.tree(p.commit); p.tree == nil {
		return false
	}
	var err error
	p.files, p.open, err = choose(r.ref, p.tree)
	return err == nil
}

// place asks where a layer is: at the registry itself, with its token, or where it redirects to.
func (r *registry) place(ctx context.Context, f *file) (place, error) {
	resp, err := r.ask(ctx, http.MethodHead, "blobs/sha256:"+f.blob, nil)
	if err != nil {
		return place{}, err
	}
	resp.Body.Close()
	at := resp.Request.URL
	if redirects(resp) {
		next, err := target(at, resp)
		return place{url: next, signed: true}, err
	}
	if err := r.refused(resp); err != nil {
		return place{}, err
	}
	p := place{url: at, header: http.Header{}, signed: true} // the token is good for a while
	if authorization := r.wire.last(); authorization != "" {
		p.header.Set("Authorization", authorization)
	}
	return p, nil
}
