package hub

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Store imitates an object store that speaks S3 and has one bucket. It computes each signature
// itself, from the description of Signature Version 4 alone.
type Store struct {
	Bucket, Region string
	Objects        map[string][]byte
	Access, Secret string // without them, everyone may read
	Digests        bool   // it keeps the SHA-256 of objects
	PageSize       int

	mu   sync.Mutex
	seen []string
}

// Requests returns what was asked so far.
func (s *Store) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
	s.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if s.Access != "" {
		switch scope, problem := s.signature(r); {
		case scope != "" && scope != s.Region:
			w.Header().Set("X-Amz-Bucket-Region", s.Region)
			http.Error(w, "<Error><Code>AuthorizationHeaderMalformed</Code></Error>", http.StatusBadRequest)
			return
		case problem != "":
			http.Error(w, "<Error><Code>"+problem+"</Code></Error>", http.StatusForbidden)
			return
		}
	}
	if bucket != s.Bucket {
		http.Error(w, "<Error><Code>NoSuchBucket</Code></Error>", http.StatusNotFound)
		return
	}
	if key == "" && r.URL.Query().Get("list-type") == "2" {
		s.list(w, r.URL.Query())
		return
	}
	data, ok := s.Objects[key]
	if !ok {
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
		return
	}
	sum := sha256.Sum256(data)
	if s.Digests && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
		w.Header().Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
		w.Header().Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	w.Header().Set("ETag", `"`+etag(data)+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func etag(data []byte) string {
	sum := md5.Sum(data)
	return hex.EncodeToString(sum[:])
}

func (s *Store) list(w http.ResponseWriter, q url.Values) {
	type object struct {
		Key, ETag string
		Size      int
	}
	var answer struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		Contents              []object
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
	}
	for _, key := range slices.Sorted(maps.Keys(s.Objects)) {
		if !strings.HasPrefix(key, q.Get("prefix")) || key <= q.Get("continuation-token") {
			continue
		}
		if s.PageSize > 0 && len(answer.Contents) == s.PageSize {
			answer.IsTruncated = true
			answer.NextContinuationToken = answer.Contents[s.PageSize-1].Key
			break
		}
		answer.Contents = append(answer.Contents, object{key, `"` + etag(s.Objects[key]) + `"`, len(s.Objects[key])})
	}
	_ = xml.NewEncoder(w).Encode(answer) // the client is gone
}

// signature checks the signature of a request in its address, and returns the region that it is for
// and what is wrong with it.
func (s *Store) signature(r *http.Request) (region, problem string) {
	q := r.URL.Query()
	scope := strings.Split(q.Get("X-Amz-Credential"), "/") // key/20060102/region/s3/aws4_request
	if q.Get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" || len(scope) != 5 {
		return "", "AccessDenied"
	}
	at, err := time.Parse("20060102T150405Z", q.Get("X-Amz-Date"))
	seconds, errSeconds := strconv.Atoi(q.Get("X-Amz-Expires"))
	switch {
	case err != nil || errSeconds != nil || time.Since(at) > time.Duration(seconds)*time.Second:
		return scope[2], "ExpiredToken"
	case scope[0] != s.Access:
		return scope[2], "InvalidAccessKeyId"
	}
	given := q.Get("X-Amz-Signature")
	q.Del("X-Amz-Signature")
	var headers strings.Builder
	for name := range strings.SplitSeq(q.Get("X-Amz-SignedHeaders"), ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(value))
	}
	canonical := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.ReplaceAll(q.Encode(), "+", "%20"),
		headers.String(), q.Get("X-Amz-SignedHeaders"), "UNSIGNED-PAYLOAD"}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", q.Get("X-Amz-Date"), strings.Join(scope[1:], "/"),
		hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + s.Secret)
	for _, part := range append(scope[1:], text) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	for name := range r.Header { // each header of the store's own has to be signed
		low := strings.ToLower(name)
		if strings.HasPrefix(low, "x-amz-") && !strings.Contains(";"+q.Get("X-Amz-SignedHeaders")+";", ";"+low+";") {
			return scope[2], "AccessDenied"
		}
	}
	if hex.EncodeToString(key) != given {
		return scope[2], "SignatureDoesNotMatch"
	}
	return scope[2], ""
}
