package api

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Bounds of a token file.
const (
	tokenLimit = 16 << 10 // bytes
	mostTokens = 64
)

// token is one caller over TCP.
type token struct {
	sum   [sha256.Size]byte // of the token: comparing hashes of one length leaks nothing
	name  string            // for logs; empty where the file has one token without a name
	may   access
	pools []string // the only ones that it is for; empty: all
}

// tokens are those of a file. They are never changed.
type tokens []token

// find returns the token with this hash, nil for none. Each is compared, in constant time: how long
// it takes does not depend on which one it is.
func (list tokens) find(sum [sha256.Size]byte) (found *token) {
	for i := range list {
		if subtle.ConstantTimeCompare(sum[:], list[i].sum[:]) == 1 {
			found = &list[i]
		}
	}
	return found
}

// readTokens reads a token file. Each line is a token and, behind it, what is known of it:
//
//	TOKEN [name=NAME] [scope=read|write] [pools=ID,ID]
//
// Empty lines and those that begin with # are left out. A file with one token needs no name.
func readTokens(path string) (tokens, error) {
	bad := func(why string) error {
		return registry.Fail(registry.CodeConfigInvalid, fmt.Sprintf("auth_token_file %s %s", path, why),
			"Write one line of random characters, as openssl rand -hex 32 prints, owned by root with mode 0600; "+
				"of several lines each has a name behind the token: TOKEN name=gateway scope=write.")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, bad("cannot be read: " + plainCause(err))
	}
	if !info.Mode().IsRegular() || info.Size() > tokenLimit {
		return nil, bad(fmt.Sprintf("is not a regular file of at most %d bytes", tokenLimit))
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, bad("cannot be read: " + plainCause(err))
	}
	list, err := parseTokens(body)
	if err != nil {
		return nil, bad(err.Error())
	}
	return list, nil
}

// parseTokens parses the text of a token file. No error has a word of it but names: any other may
// be a secret.
func parseTokens(body []byte) (tokens, error) {
	var list tokens
	lines := bufio.NewScanner(bytes.NewReader(body))
	lines.Buffer(nil, tokenLimit+1)
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		t, err := parseToken(words)
		if err != nil {
			return nil, fmt.Errorf("line %d %w", n, err)
		}
		for i := range list {
			if list[i].sum == t.sum || list[i].name == t.name {
				return nil, fmt.Errorf("line %d has the token or the name of an earlier line; "+
					"of several tokens each has a name of its own", n)
			}
		}
		if list = append(list, t); len(list) > mostTokens {
			return nil, fmt.Errorf("has more than %d tokens", mostTokens)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, errors.New("has a line that is too long")
	}
	switch {
	case len(list) == 0:
		return nil, errors.New("is empty")
	case len(list) > 1 && slices.ContainsFunc(list, func(t token) bool { return t.name == "" }):
		return nil, errors.New("has several tokens, of which one has no name")
	}
	return list, nil
}

// Words of a token file.
var (
	tokenWord = regexp.MustCompile(`^[!-~]+$`)
	tokenName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)
	tokenPool = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
)

func parseToken(words []string) (token, error) {
	if !tokenWord.MatchString(words[0]) {
		return token{}, errors.New("has characters that a header does not allow")
	}
	t := token{sum: sha256.Sum256([]byte(words[0])), may: accessWrite}
	for i, word := range words[1:] {
		key, value, is := strings.Cut(word, "=")
		switch {
		case !is || !slices.Contains([]string{"name", "scope", "pools"}, key):
			return token{}, errors.New("has more than one word, and behind the token only name=, scope= and pools= " +
				"may be")
		case slices.ContainsFunc(words[1:i+1], func(w string) bool { return strings.HasPrefix(w, key+"=") }):
			return token{}, fmt.Errorf("has %s= twice", key)
		case key == "name" && tokenName.MatchString(value):
			t.name = value
		case key == "scope" && value == "read":
			t.may = accessRead
		case key == "scope" && value == "write":
		case key == "pools" && validPools(value):
			t.pools = strings.Split(value, ",")
		default:
			return token{}, fmt.Errorf("has a value of %s= that is not valid", key)
		}
	}
	return t, nil
}

func validPools(list string) bool {
	for id := range strings.SplitSeq(list, ",") {
		if !tokenPool.MatchString(id) {
			return false
		}
	}
	return true
}

// outside returns the refusal of a request by a token that is for some pools alone: it may use the
// paths of those, and what names no pool. Lists, metrics and the events of all pools name others.
func (t *token) outside(r *http.Request) *Error {
	if t == nil || len(t.pools) == 0 {
		return nil
	}
	_, path, _ := strings.Cut(r.Pattern, " ")
	switch {
	case strings.Contains(path, "{id}"):
		if slices.Contains(t.pools, r.PathValue("id")) {
			return nil
		}
	case slices.Contains([]string{"/health", "/ready", "/v1/version", "/v2/meta/version", "/v1/access", "/openapi.yaml",
		"/{$}"}, path), strings.HasPrefix(path, "/page/"):
		return nil
	case path == "/v1/events":
		if slices.Contains(t.pools, r.URL.Query().Get("pool")) {
			return nil
		}
	}
	return forbidden("this token is for some pools alone, and the request is not about one of them",
		"Use a path of one of its pools, or GET /v1/events?pool=ID.")
}
