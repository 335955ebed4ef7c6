package fetch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// TestRepository: a whole repository lies in the cache as huggingface_hub would have put it.
func TestRepository(t *testing.T) {
	model := repo()
	s := start(t, model)
	s.PageSize = 3
	got := s.get(t, "hf:org/model").result(t)
	snapshot := filepath.Join(s.cache, modelDir, "snapshots", model.Commit)
	want := wire.Event{Kind: wire.Result, Path: snapshot, Commit: model.Commit, Files: 8, Bytes: got.Bytes}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	same(t, snapshot, model.Files...)
	s.clean(t, modelDir)
	for _, f := range model.Files {
		up := strings.Repeat("../", 2+strings.Count(f.Path, "/"))
		if link, err := os.Readlink(filepath.Join(snapshot, f.Path)); err != nil || link != up+"blobs/"+f.ID() {
			t.Errorf("%s is a link to %q (%v)", f.Path, link, err)
		}
	}
	ref, err := os.ReadFile(filepath.Join(s.cache, modelDir, "refs", "main"))
	if err != nil || string(ref) != model.Commit {
		t.Errorf("refs/main is %q (%v)", ref, err)
	}
	data, err := os.ReadFile(filepath.Join(s.cache, modelDir, "trees", model.Commit+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	files, _ := tree["files"].(map[string]any)
	big, _ := files["dir/big.safetensors"].(map[string]any)
	if len(files) != 8 || big["lfs_sha256"] != model.Files[3].ID() || big["size"] != float64(1<<20+17) {
		t.Errorf("the listing is %s", data)
	}
	if leaks := s.Leaks(); len(leaks) > 0 {
		t.Errorf("a token reached the other host: %q", leaks)
	}
}

// TestSelection: a reference means its files, with all their parts, and no others.
func TestSelection(t *testing.T) {
	for ref, want := range map[string]struct {
		open  string
		files []string
	}{
		"hf:org/model/config.json":                           {"config.json", []string{"config.json"}},
		"hf:org/model/empty":                                 {"empty", []string{"empty"}},
		"hf:org/model@main/dir/big.safetensors":              {"dir/big.safetensors", []string{"dir/big.safetensors"}},
		"hf:org/model:Q8_0":                                  {"model-Q8_0.gguf", []string{"model-Q8_0.gguf"}},
		"hf:org/model:q4_k_m":                                {"model-Q4_K_M-00001-of-00002.gguf", []string{"model-Q4_K_M-00001-of-00002.gguf", "model-Q4_K_M-00002-of-00002.gguf"}},
		"hf:org/model/model-Q4_K_M-00002-of-00002.gguf":      {"model-Q4_K_M-00001-of-00002.gguf", []string{"model-Q4_K_M-00001-of-00002.gguf", "model-Q4_K_M-00002-of-00002.gguf"}},
		"hf:org/old-name@refs%2Fpr%2F1/config.json":          {"config.json", []string{"config.json"}},
		"hf:org/model@" + strings.Repeat("ab", 20) + ":Q8_0": {"model-Q8_0.gguf", []string{"model-Q8_0.gguf"}},
	} {
		t.Run(strings.ReplaceAll(ref, "%2F", "_"), func(t *testing.T) {
			model := repo()
			model.Commit, model.Renamed = strings.Repeat("ab", 20), "org/old-name"
			model.Branches = []string{"main", "refs/pr/1"}
			s := start(t, model)
			got := s.get(t, ref).result(t)
			dir := s.request(ref).Directory
			snapshot := filepath.Join(s.cache, dir, "snapshots", model.Commit)
			if got.Path != filepath.Join(snapshot, want.open) || got.Files != len(want.files) {
				t.Errorf("result %+v", got)
			}
			var there []string
			for _, f := range model.Files {
				if _, err := os.Stat(filepath.Join(snapshot, f.Path)); err == nil {
					there = append(there, f.Path)
					same(t, snapshot, f)
				}
			}
			if diff := cmp.Diff(want.files, there); diff != "" {
				t.Error(diff)
			}
			large := len(want.files) == 1 && strings.Contains(want.open, ".gguf")
			if large && got.Digest != "sha256:"+model.Files[6].ID() {
				t.Errorf("digest %q", got.Digest)
			}
		})
	}
}

// TestRefusals: each reason why the hub does not serve something is reported as what it is, with
// what to do, and nothing is left half done.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		ref    string
		change func(*hub.Repo, *site)
		token  string
		reason wire.Reason
		parts  []string
	}{
		"no_file":         {ref: "hf:org/model/nothing.gguf", reason: wire.NotFound, parts: []string{"nothing.gguf"}},
		"no_revision":     {ref: "hf:org/model@v9", reason: wire.NotFound, parts: []string{`no revision "v9"`}},
		"no_quant":        {ref: "hf:org/model:Q2_K", reason: wire.NotFound, parts: []string{"Q2_K", "Q4_K_M, Q8_0"}},
		"no_repo":         {ref: "hf:org/other", reason: wire.NotFound, parts: []string{"does not exist, or it is private", "hf_token_file"}},
		"no_repo_token":   {ref: "hf:org/other", token: "t", reason: wire.NotFound, parts: []string{"the token may not see it"}},
		"private":         {ref: "hf:org/model", change: func(r *hub.Repo, _ *site) { r.Token = "t" }, reason: wire.NotFound, parts: []string{"private"}},
		"bad_token":       {ref: "hf:org/model", change: func(r *hub.Repo, _ *site) { r.Token = "t" }, token: "u", reason: wire.Unauthorized, parts: []string{"not valid"}},
		"gated":           {ref: "hf:org/model:Q8_0", change: func(r *hub.Repo, _ *site) { r.Gated = true }, token: "t", reason: wire.Gated, parts: []string{"/org/model with the account"}},
		"forbidden":       {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Tree, Kind: hub.Forbidden}) }, reason: wire.Unauthorized, parts: []string{"may not read"}},
		"rate_limited":    {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Tree, Kind: hub.RateLimited, N: 120}) }, reason: wire.RateLimited},
		"retry_after":     {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Revision, Kind: hub.RetryAfter, N: 3600}) }, reason: wire.RateLimited},
		"down":            {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Tree, Kind: hub.ServerError}) }, reason: wire.Network, parts: []string{"failed (500)"}},
		"portal":          {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Revision, Kind: hub.NotJSON}) }, reason: wire.BadAnswer, parts: []string{"no JSON"}},
		"endless":         {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Tree, Kind: hub.Endless}) }, reason: wire.BadAnswer, parts: []string{"without an end"}},
		"linked_size":     {ref: "hf:org/model:Q8_0", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Resolve, Kind: hub.LinkedSize, N: 1}) }, reason: wire.BadAnswer, parts: []string{"300000", "300001"}},
		"wrong_etag":      {ref: "hf:org/model:Q8_0", change: func(_ *hub.Repo, s *site) { s.Add(&hub.Fault{On: hub.Resolve, Kind: hub.WrongETag}) }, reason: wire.BadAnswer, parts: []string{"model-Q8_0.gguf"}},
		"above_50_GB":     {ref: "hf:org/model", change: func(r *hub.Repo, _ *site) { r.Files[3].Size, r.Files[3].Xet = 50_000_000_001, "x" }, reason: wire.TooLarge, parts: []string{"dir/big.safetensors", "Xet"}},
		"no_shard":        {ref: "hf:org/model:Q4_K_M", change: func(r *hub.Repo, _ *site) { r.Files = slices.Delete(r.Files, 5, 6) }, reason: wire.NotFound, parts: []string{"00002-of-00002", "incomplete"}},
		"two_models":      {ref: "hf:org/model:Q8_0", change: func(r *hub.Repo, _ *site) { r.Files[6].Path, r.Files[7].Path = "a-Q8_0.gguf", "b-Q8_0.gguf" }, reason: wire.BadRequest, parts: []string{"a-Q8_0, b-Q8_0"}},
		"climbing_path":   {ref: "hf:org/model", change: func(r *hub.Repo, _ *site) { r.Files[0].Path = "../../escape" }, reason: wire.BadAnswer, parts: []string{"no repository has"}},
		"no_space":        {ref: "hf:org/model", change: func(r *hub.Repo, _ *site) { r.Files[3].Size = 1 << 49 }, reason: wire.NoSpace, parts: []string{"are free"}},
		"host_not_pinned": {ref: "hf:org/model:Q8_0", change: func(_ *hub.Repo, s *site) { delete(s.hosts, "cdn.test") }, reason: wire.HostDenied, parts: []string{"cdn.test", "allowed_hosts"}},
		"hub_not_pinned":  {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { delete(s.hosts, "hub.test") }, reason: wire.HostDenied, parts: []string{"hub.test"}},
		"other_host": {ref: "hf:org/model:Q8_0", change: func(_ *hub.Repo, s *site) {
			s.Add(&hub.Fault{On: hub.CDN, Kind: hub.OtherHost, To: "http://evil.test"})
		}, reason: wire.HostDenied, parts: []string{"evil.test"}},
		"address_stale": {ref: "hf:org/model", change: func(_ *hub.Repo, s *site) { s.hosts["hub.test"] = []string{"127.1.2.3"} }, reason: wire.AddressStale, parts: []string{"hub.test"}},
	} {
		t.Run(name, func(t *testing.T) {
			model := repo()
			s := start(t, model)
			if c.change != nil {
				c.change(model, s)
			}
			got := s.fetch(t.Context(), s.request(c.ref), Options{Secrets: Secrets{HubToken: c.token}}, quick())
			got.failed(t, c.reason, c.parts...)
			if _, err := os.Stat(filepath.Join(s.cache, modelDir, "refs", "main")); err == nil {
				t.Error("refs/main names a snapshot that is not complete")
			}
			if leaks := s.Leaks(); len(leaks) > 0 {
				t.Errorf("a token reached the other host: %q", leaks)
			}
			if name == "above_50_GB" || name == "no_space" {
				for _, r := range s.Requests() {
					if strings.Contains(r, "cdn.test") || strings.Contains(r, "/resolve/") {
						t.Errorf("a byte was moved: %s", r)
					}
				}
			}
		})
	}
}

// TestToken: a token opens a private repository, follows a renamed one, and reaches no other host.
func TestToken(t *testing.T) {
	model := repo()
	model.Token, model.Renamed = "hf_secret", "org/former"
	s := start(t, model)
	o := Options{Secrets: Secrets{HubToken: "hf_secret"}}
	s.fetch(t.Context(), s.request("hf:org/former:Q8_0"), o, quick()).result(t)
	if leaks := s.Leaks(); len(leaks) > 0 {
		t.Errorf("the token reached the other host: %q", leaks)
	}
}

// TestLimits: what is larger than allowed is refused before it is fetched, and the digest of a pool
// file before a byte as well.
func TestLimits(t *testing.T) {
	s := start(t, repo())
	r := s.request("hf:org/model")
	r.MaxBytes = 1000
	s.fetch(t.Context(), r, Options{}, quick()).failed(t, wire.TooLarge, "1000 are allowed")
	r = s.request("hf:org/model:Q8_0")
	r.Digest = "sha256:" + strings.Repeat("0", 64)
	s.fetch(t.Context(), r, Options{}, quick()).failed(t, wire.DigestMismatch, "model-Q8_0.gguf")
	for _, asked := range s.Requests() {
		if strings.Contains(asked, "cdn.test") {
			t.Errorf("a byte was moved: %s", asked)
		}
	}
	r = s.request("hf:org/model/config.json")
	r.Digest = "sha256:" + strings.Repeat("0", 64)
	s.fetch(t.Context(), r, Options{}, quick()).failed(t, wire.DigestMismatch, "was set aside")
}

// TestOffline: a commit whose files are there needs no network, and a branch only one question.
func TestOffline(t *testing.T) {
	model := repo()
	s := start(t, model)
	s.get(t, "hf:org/model:Q8_0").result(t)
	before := len(s.Requests())
	s.get(t, "hf:org/model@"+model.Commit+":Q8_0").result(t)
	if n := len(s.Requests()) - before; n != 0 {
		t.Errorf("a commit that is there took %d requests", n)
	}
	got := s.get(t, "hf:org/model:Q8_0")
	got.result(t)
	if plan := got.events[0]; plan.Present != plan.Total || plan.Total != 300_000 {
		t.Errorf("the plan is %+v", plan)
	}
}

// TestSharedCache: what huggingface_hub put there is used without a copy, with links and without.
func TestSharedCache(t *testing.T) {
	model := repo()
	s := start(t, model)
	snapshot := filepath.Join(s.cache, modelDir, "snapshots", model.Commit)
	blobs := filepath.Join(s.cache, modelDir, "blobs")
	for _, dir := range []string{snapshot, blobs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	theirs := filepath.Join(blobs, model.Files[6].ID()+".0123abcd.incomplete")
	for name, data := range map[string][]byte{
		filepath.Join(blobs, model.Files[6].ID()):    hub.Data(5, 300_000),
		filepath.Join(snapshot, model.Files[1].Path): hub.Data(1, 2000),
		theirs: []byte("half"),
	} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.get(t, "hf:org/model:Q8_0").result(t)
	s.get(t, "hf:org/model/config.json").result(t)
	for _, asked := range s.Requests() {
		content := strings.Contains(asked, "cdn.test") || strings.Contains(asked, "/resolve/")
		if strings.HasPrefix(asked, "GET") && content {
			t.Errorf("%s, and it was there", asked)
		}
	}
	if data, err := os.ReadFile(theirs); err != nil || string(data) != "half" {
		t.Errorf("the incomplete file of another program is %q (%v)", data, err)
	}
}

// TestHostileCache: links that another user of the cache made lead nothing out of it.
func TestHostileCache(t *testing.T) {
	for _, name := range []string{"blobs", "snapshots", "refs", "trees"} {
		s := start(t, repo())
		out := t.TempDir()
		dir := filepath.Join(s.cache, modelDir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(out, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		s.get(t, "hf:org/model:Q8_0").failed(t, wire.CacheFailed)
		if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
			t.Errorf("%s: %d files were written outside of the cache (%v)", name, len(left), err)
		}
	}
}
