package fetch

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// store is an object store that speaks S3. Buckets are named in the path, so that a request goes to
// one host whatever the bucket; each request is signed in its address, which is good for a while.
type store struct {
	*fetcher
	endpoint *url.URL
	region   string
	keys     StoreKeys
}

// StoreKeys are the credentials of an object store; without them, requests are not signed.
type StoreKeys struct{ Access, Secret, Session string }

// signedFor is how long an address is good for, in seconds: a part of a file is requested within.
const signedFor = 900

func newStore(f *fetcher) (*store, error) {
	u, err := url.Parse(strings.TrimSuffix(f.request.Endpoint, "/"))
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "endpoint is no URL",
			Hint: "Write https://s3.eu-west-1.amazonaws.com, with the bucket's region, or the URL of another store."}
	}
	s := &store{fetcher: f, endpoint: u, region: cmp.Or(f.request.Region, s3utils.GetRegionFromURL(*u)),
		keys: f.secrets.Store}
	if s.region == "" {
		s.region = "us-east-1" // what stores that know no regions expect
	}
	if (s.keys.Access == "") != (s.keys.Secret == "") {
		return nil, &Failure{Reason: wire.BadRequest, Message: "there is one half of the store's credentials",
			Hint: "Write both, aws_access_key_id and aws_secret_access_key."}
	}
	return s, nil
}

// address makes the address of an object, or of the bucket, with its signature.
func (s *store) address(method, key string, query url.Values, header http.Header) (*url.URL, error) {
	at := s.endpoint.String() + "/" + s.ref.Repo
	if key != "" {
		at += "/" + s3utils.EncodePath(key)
	}
	if len(query) > 0 {
		at += "?" + query.Encode()
	}
	req, err := http.NewRequest(method, at, nil)
	if err != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "the key cannot be written as an address", Err: err,
			Hint: "Rename the object."}
	}
	if header != nil {
		req.Header = header
	}
	return signer.PreSignV4(*req, s.keys.Access, s.keys.Secret, s.keys.Session, s.region, signedFor).URL, nil
}

// ask sends a request to the store. A bucket of another region is asked once more, with that.
func (s *store) ask(ctx context.Context, method, key string, query url.Values, header http.Header) (*http.Response,
	error) {
	for first := true; ; first = false {
		u, err := s.address(method, key, query, header)
		if err != nil {
			return nil, err
		}
		resp, err := s.client.do(ctx, method, u, header)
		if err != nil {
			return nil, err
		}
		region := resp.Header.Get("X-Amz-Bucket-Region")
		if first && resp.StatusCode >= 300 && region != "" && region != s.region && wire.Text(region, 64) == region {
			discard(resp)
			s.region = region
			continue
		}
		if f := s.refused(resp); f != nil {
			discard(resp)
			return nil, f
		}
		return resp, nil
	}
}

// refused explains an answer of the store.
func (s *store) refused(resp *http.Response) error {
	f := refused(s.endpoint.Hostname(), resp)
	switch {
	case f == nil:
		return nil
	case resp.StatusCode < 400:
		f.Message = fmt.Sprintf("%s says that the bucket %s is elsewhere", s.endpoint.Hostname(), s.ref.Repo)
		f.Hint = "Set s3_endpoint to that of the bucket's region: https://s3." + s.region + ".amazonaws.com."
	case f.Reason == wire.Unauthorized && s.keys.Access == "":
		f.Hint = "Name a file with keys by s3_credentials_file, or allow everyone to read the object. " +
			"An object that does not exist is refused too."
	case f.Reason == wire.Unauthorized:
		f.Hint = "Check the keys, the host's clock, and that they may read the bucket. " +
			"An object that does not exist is refused too, if they may not list it."
	}
	f.Message = fmt.Sprintf("s3://%s/%s: %s", s.ref.Repo, s.ref.Path, f.Message)
	return f
}

func (s *store) plan(ctx context.Context) (p plan, err error) {
	p.revision = "main"
	if strings.HasSuffix(s.ref.Path, "/") {
		p.files, err = s.list(ctx)
	} else {
		var f *file
		f, err = s.head(ctx)
		p.open, p.files = path.Base(s.ref.Path), []*file{f}
	}
	if err != nil {
		return p, err
	}
	sum := sha256.New()
	for _, f := range p.files {
		fmt.Fprintf(sum, "%s\x00%s\x00%d\n", f.path, f.blob, f.size)
	}
	p.commit = hex.EncodeToString(sum.Sum(nil))[:40]
	p.tree = p.files
	s.cache.known(p.commit, p.files)
	return p, nil
}

// checksumMode asks for the digest that the store may have kept of an object.
func checksumMode() http.Header { return http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}} }

func (s *store) head(ctx context.Context) (f *file, err error) {
	err = s.retry(ctx, func() (bool, error) {
		resp, err := s.ask(ctx, http.MethodHead, s.ref.Path, nil, checksumMode())
		if err != nil {
			return false, err
		}
		resp.Body.Close()
		if resp.ContentLength < 0 || resp.ContentLength > maxFile {
			return false, badAnswer(s.endpoint.Hostname(), "does not say how large the object is")
		}
		f = s.object(s.ref.Path, path.Base(s.ref.Path), resp.Header.Get("ETag"), resp.ContentLength)
		// Of an object of several parts it may be that of the parts' digests.
		digest, err := base64.StdEncoding.DecodeString(resp.Header.Get("X-Amz-Checksum-Sha256"))
		if err == nil && len(digest) == sha256.Size && resp.Header.Get("X-Amz-Checksum-Type") != "COMPOSITE" {
			f.blob = hex.EncodeToString(digest)
			f.sum = sum{bySHA256, f.blob}
		}
		return false, nil
	})
	return f, err
}

func (s *store) object(key, name, etag string, size int64) *file {
	id := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s\n%s\n%d", s.endpoint, s.ref.Repo, key, etag, size))
	return &file{path: name, size: size, blob: hex.EncodeToString(id[:])[:40], key: key, etag: etag}
}

// page is one of a listing (ListObjectsV2).
type page struct {
	Contents []struct {
		Key  string
		ETag string
		Size int64
	}
	IsTruncated           bool
	NextContinuationToken string
}

// list returns all objects below a prefix.
func (s *store) list(ctx context.Context) (files []*file, err error) {
	query := url.Values{"list-type": {"2"}, "prefix": {s.ref.Path}}
	host := s.endpoint.Hostname()
	for {
		var p page
		err := s.retry(ctx, func() (bool, error) {
			resp, err := s.ask(ctx, http.MethodGet, "", query, nil)
			if err != nil {
				return false, err
			}
			defer discard(resp)
			p = page{}
			if err := xml.NewDecoder(io.LimitReader(resp.Body, maxJSON)).Decode(&p); err != nil {
				return false, badAnswer(host, "sent no list of objects")
			}
			return false, nil
		})
		if err != nil {
			return nil, err
		}
		for _, o := range p.Contents {
			name, below := strings.CutPrefix(o.Key, s.ref.Path)
			if strings.HasSuffix(o.Key, "/") && o.Size == 0 {
				continue // stands for a folder
			}
			if !below || !modelref.PlainPath(name) || o.Size < 0 || o.Size > maxFile || len(files) == maxFiles {
				return nil, badAnswer(host, "lists objects that cannot be files")
			}
			files = append(files, s.object(o.Key, name, o.ETag, o.Size))
		}
		if !p.IsTruncated {
			break
		}
		if p.NextContinuationToken == "" || p.NextContinuationToken == query.Get("continuation-token") {
			return nil, badAnswer(host, "sent a list without an end")
		}
		query.Set("continuation-token", p.NextContinuationToken)
	}
	if len(files) == 0 {
		return nil, &Failure{Reason: wire.NotFound, Message: s.ref.String() + " has no objects", Hint: "Check the key."}
	}
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

func (s *store) place(_ context.Context, f *file) (place, error) {
	u, err := s.address(http.MethodGet, f.key, nil, nil)
	return place{url: u, signed: s.keys.Access != "", etag: quotedETag(f.etag)}, err
}

// quotedETag returns an entity tag as a header has it; a listing may have it without quotes.
func quotedETag(etag string) string {
	if etag == "" || strings.HasPrefix(etag, `"`) || strings.HasPrefix(etag, "W/") {
		return etag
	}
	return strconv.Quote(etag)
}
