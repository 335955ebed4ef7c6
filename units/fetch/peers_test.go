package fetch

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// manager is the API of another host that hands out the files of a repository by digest.
type manager struct {
	files map[string][]byte
	asked atomic.Int64
	token string // that callers need; empty: none
	// answer is what it does instead; false: what a manager does.
	answer func(w http.ResponseWriter, r *http.Request, content []byte) bool
}

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.asked.Add(1)
	digest, is := strings.CutPrefix(r.URL.Path, "/v1/artifacts/sha256:")
	content := m.files[digest]
	switch {
	case !is || m.token != "" && r.Header.Get("Authorization") != "Bearer "+m.token:
		w.WriteHeader(http.StatusUnauthorized)
	case m.answer != nil && m.answer(w, r, content):
	case content == nil:
		w.WriteHeader(http.StatusNotFound)
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

// has is a manager with the large files of a repository.
func has(t *testing.T, of *hub.Repo) *manager {
	t.Helper()
	m := &manager{files: make(map[string][]byte)}
	for _, f := range of.Files {
		content, err := io.ReadAll(f.Open())
		if err != nil {
			t.Fatal(err)
		}
		if f.LFS {
			m.files[f.ID()] = content
		}
	}
	return m
}

// near are settings for peers under which faults of time take milliseconds, and patient ones are
// for peers that have no such fault, on a busy machine too.
func near() settings {
	s := patient()
	s.peerStall, s.peerWindow = 200*time.Millisecond, 150*time.Millisecond
	return s
}

func patient() settings {
	s := quick()
	s.stall, s.connect = 30*time.Second, 30*time.Second
	s.peerStall, s.peerWindow = s.stall, s.stall
	return s
}

// fromCDN is how often the source was asked for content.
func (s *site) fromCDN() (n int) {
	for _, asked := range s.Requests() {
		if strings.HasPrefix(asked, "GET cdn.test") {
			n++
		}
	}
	return n
}

// TestPeers: what a peer has comes from there, and whatever it does wrong, the file is the same as
// of its source.
func TestPeers(t *testing.T) {
	const size = 1<<20 + 17
	all := func(n int64, from string) bool { return n == size && from == "peer" }
	some := func(n int64, from string) bool { return n > 0 && n < size && from == "both" }
	none := func(n int64, from string) bool { return n == 0 && from == "source" }
	whole := func(w http.ResponseWriter, _ *http.Request, content []byte) bool {
		_, _ = w.Write(content)
		return true
	}
	status := func(code int) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.WriteHeader(code)
			return true
		}
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request, content []byte) bool
		token  string
		want   func(n int64, from string) bool
		log    string
		late   bool // its fault is one of time
	}{
		"has_it":            {want: all, log: "1048593 of 1048593 bytes came from peer.test"},
		"does_not_have_it":  {answer: status(404), want: none},
		"does_not_share":    {answer: status(403), want: none, log: "peer.test is not asked again: peer.test refuses access"},
		"wants_a_token":     {token: "secret", want: none, log: "refuses access (401)"},
		"is_busy":           {answer: status(503), want: none, log: "peer.test is not asked again"},
		"redirects":         {answer: status(302), want: none, log: "is no manager that hands out files (302)"},
		"ignores_ranges":    {answer: whole, want: none, log: "is no manager that hands out files (200)"},
		"is_another_server": {answer: status(204), want: none, log: "peer.test is not asked again"},
		"lies": {answer: func(w http.ResponseWriter, r *http.Request, content []byte) bool {
			wrong := bytes.Clone(content)
			wrong[len(wrong)/2] ^= 1
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(wrong))
			return true
		}, want: none, log: "what came of dir/big.safetensors has another digest"},
		"has_another_size": {answer: func(w http.ResponseWriter, r *http.Request, content []byte) bool {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content[1:]))
			return true
		}, want: none, log: "sent another part"},
		"stalls": {answer: func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			<-r.Context().Done()
			return true
		}, want: none, log: "peer.test sent nothing for 200ms", late: true},
		"cuts_each_answer": {answer: func(w http.ResponseWriter, r *http.Request, content []byte) bool {
			var from, to int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
			w.Header().Set("Content-Length", fmt.Sprint(to-from+1))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[from : from+1000])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, want: some, log: "cut the connection"},
		"is_slow": {answer: func(w http.ResponseWriter, r *http.Request, content []byte) bool {
			var from, to int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(content)))
			w.WriteHeader(http.StatusPartialContent)
			for at := from; at <= to && r.Context().Err() == nil; at++ {
				_, _ = w.Write(content[at : at+1])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
			return true
		}, want: some, log: "peer.test is slow", late: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			model := repo()
			s := start(t, model)
			m := has(t, model)
			m.answer, m.token = c.answer, c.token
			s.hosts["peer.test"] = []string{"127.0.0.1"}
			r := s.request("hf:org/model/dir/big.safetensors")
			r.Peers = []string{serve(t, "peer.test", m)}
			set := patient()
			if c.late {
				set = near()
			}
			o := s.fetch(t.Context(), r, Options{}, set)
			got := o.result(t)
			same(t, filepath.Join(s.cache, modelDir, "snapshots", got.Commit), model.Files[3])
			s.clean(t, modelDir)
			from := "source"
			switch n := s.fromCDN(); {
			case n == 0:
				from = "peer"
			case got.PeerBytes > 0:
				from = "both"
			}
			if !c.want(got.PeerBytes, from) || m.asked.Load() == 0 || !strings.Contains(o.log, c.log) {
				t.Errorf("%d bytes of peers, from %s; the peer was asked %d times\n%s", got.PeerBytes, from,
					m.asked.Load(), o.log)
			}
			if got.Digest != "sha256:"+model.Files[3].ID() {
				t.Errorf("the digest is %s", got.Digest)
			}
		})
	}
}

// TestSeveralPeers: each file comes from a peer that has it, the rest from its source, and a peer
// that is gone delays nothing for long.
func TestSeveralPeers(t *testing.T) {
	model := repo()
	s := start(t, model)
	one, two := has(t, model), has(t, model)
	big, q8, mmproj := model.Files[3].ID(), model.Files[6].ID(), model.Files[7].ID()
	delete(one.files, big)
	delete(one.files, mmproj)
	delete(two.files, q8)
	delete(two.files, mmproj)
	for _, name := range []string{"one.test", "two.test", "gone.test"} {
		s.hosts[name] = []string{"127.0.0.1"}
	}
	r := s.request("hf:org/model")
	r.Peers = []string{"http://gone.test:1", serve(t, "one.test", one), serve(t, "two.test", two)}
	o := s.fetch(t.Context(), r, Options{}, patient())
	got := o.result(t)
	same(t, filepath.Join(s.cache, modelDir, "snapshots", got.Commit), model.Files...)
	if want := int64(1<<20 + 17 + 100_000 + 50_000 + 300_000); got.PeerBytes != want {
		t.Errorf("%d bytes came from peers, want %d\n%s", got.PeerBytes, want, o.log)
	}
	if !strings.Contains(o.log, "bytes came from one.test, two.test") ||
		!strings.Contains(o.log, "gone.test is not asked again") {
		t.Errorf("the log is %s", o.log)
	}
	for _, asked := range s.Requests() {
		if strings.Contains(asked, big) || strings.Contains(asked, q8) {
			t.Errorf("the source was asked for what peers have: %s", asked)
		}
	}
}

// TestPeersAreAskedForKnownFiles: no peer is asked for what has no digest beforehand, or by a
// request that does not name it.
func TestPeersAreAskedForKnownFiles(t *testing.T) {
	model := repo()
	s := start(t, model)
	m := has(t, model)
	s.hosts["peer.test"] = []string{"127.0.0.1"}
	r := s.request("hf:org/model/config.json") // git's objects have a digest that is not of the content alone
	r.Peers = []string{serve(t, "peer.test", m)}
	if got := s.fetch(t.Context(), r, Options{}, patient()).result(t); got.PeerBytes != 0 || m.asked.Load() != 0 {
		t.Errorf("the peer was asked %d times", m.asked.Load())
	}
	delete(s.hosts, "peer.test") // not pinned
	r.Ref = "hf:org/model:Q8_0"
	o := s.fetch(t.Context(), r, Options{}, patient())
	if got := o.result(t); got.PeerBytes != 0 || m.asked.Load() != 0 || !strings.Contains(o.log, "not allowed") {
		t.Errorf("a peer that is not pinned was asked %d times\n%s", m.asked.Load(), o.log)
	}
}

// TestPeerToken: the token goes to peers with https alone.
func TestPeerToken(t *testing.T) {
	f := &file{path: "x", size: 1, sum: sum{bySHA256, strings.Repeat("0a", 32)}}
	for url, want := range map[string]string{"https://gpu1:9200": "Bearer secret", "http://gpu1:9200": ""} {
		p := newPeers(wire.Request{Peers: []string{url}}, Secrets{PeersToken: "secret"}, defaults(), nil)
		at, is := p.place(f)
		if !is || at.header.Get("Authorization") != want ||
			at.url.String() != url+"/v1/artifacts/sha256:"+strings.Repeat("0a", 32) {
			t.Errorf("%s: %q at %s", url, at.header.Get("Authorization"), at.url)
		}
		p.close()
	}
}
