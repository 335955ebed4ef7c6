//go:build machine

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

// writeParts puts the files of a real llama-server beside the model that every machine has.
func (s *site) writeParts(dir string) {
	s.t.Helper()
	s.shell("mkdir -p " + dir)
	for name, encode := range map[string]func(io.Writer, uint64) error{"lora.gguf": tinymodel.EncodeAdapter,
		"mmproj.gguf": tinymodel.EncodeProjector, "rank.gguf": tinymodel.EncodeReranker} {
		var out bytes.Buffer
		if err := encode(&out, 1); err != nil {
			s.t.Fatal(err)
		}
		s.write(dir+"/"+name, out.String())
	}
}

// engineAnswer makes a request to the engine of a pool, which must answer with 200 and JSON.
func (s *site) engineAnswer(id, path, body string, into any) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	a, err := s.Engine(ctx, id, http.MethodPost, path, strings.NewReader(body))
	if err != nil || a.Status != http.StatusOK || json.Unmarshal(a.Body, into) != nil {
		s.t.Fatalf("POST %s to the engine of %s: %d %s %v", path, id, a.Status, a.Body, err)
	}
}

// TestVariants: a real llama-server serves what people start it for beside text, each by a pool
// file: embeddings, ranks, images, several requests at once, and prompts that outlive a restart.
func TestVariants(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	defer h.shell("rm -rf /srv/x /srv/slots")
	h.writeParts("/srv/x")
	h.must("install", "-d", "-m", "1777", "/srv/slots")
	asked := func(p poolFile) poolFile {
		return p.table("health", `interval = "500ms"`, `generate_interval = "500ms"`)
	}
	h.pool("embed", asked(llama().with(`args = ["--embeddings", "--pooling", "mean"]`)))
	h.pool("rank", asked(poolFile{keys: append(slicesWithout(llama().keys, "model"),
		`model = "file:/srv/x/rank.gguf"`, `args = ["--reranking"]`)}))
	// A template of a few tokens, so that the image is most of the prompt.
	h.write("/srv/x/chat.jinja", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
	h.pool("image", llama().with(`args = ["--mmproj", "/srv/x/mmproj.gguf", "--chat-template-file", "/srv/x/chat.jinja"]`))
	h.pool("four", poolFile{keys: append(slicesWithout(llama().keys, "slots"), "slots = 4",
		`args = ["--context-shift"]`)})
	h.pool("kept", llama().with(`args = ["--slot-save-path", "/var/lib/pool-engine/kept.r0/"]`))
	h.pool("shared", llama().with(`args = ["--slot-save-path", "/srv/slots/"]`, `writable = ["/srv/slots"]`))
	h.pool("below", llama().with(`args = ["--api-prefix", "/models/below"]`))
	h.reload()
	for _, c := range []struct {
		name string
		try  func(*site)
	}{
		{"embeddings", (*site).embeds},
		{"ranks", (*site).ranks},
		{"images", (*site).sees},
		{"four_streams_at_once", (*site).fourAtOnce},
		{"prompts_in_the_state_directory", func(s *site) { s.keepsPrompts("kept") }},
		{"prompts_in_a_directory_of_the_host", func(s *site) { s.keepsPrompts("shared") }},
		{"paths_below_a_prefix", (*site).isBelow},
		{"are_asked_for_what_they_serve", (*site).refusesNoGeneration},
	} {
		t.Run(c.name, func(t *testing.T) { c.try(h.in(t)) })
	}
}

// embeds: a text has a vector of the model's width, and always the same one.
func (s *site) embeds() {
	s.wait("embed", isReady)
	var answer struct {
		Data []struct{ Embedding []float64 }
	}
	s.engineAnswer("embed", "/v1/embeddings", `{"input":["hello","hello","other"]}`, &answer)
	if d := answer.Data; len(d) != 3 || len(d[0].Embedding) != 64 || !slices.Equal(d[0].Embedding, d[1].Embedding) ||
		slices.Equal(d[0].Embedding, d[2].Embedding) {
		s.t.Errorf("%+v", answer)
	}
	s.offers("embed", "embedding")
}

// ranks: each document has a score, and different ones have different scores.
func (s *site) ranks() {
	s.wait("rank", isReady)
	var answer struct {
		Results []struct {
			Index int     `json:"index"`
			Score float64 `json:"relevance_score"`
		}
	}
	s.engineAnswer("rank", "/v1/rerank", `{"query":"abc","documents":["a b c","xyz","abc"]}`, &answer)
	if r := answer.Results; len(r) != 3 || r[0].Score <= r[1].Score || r[1].Score <= r[2].Score {
		s.t.Errorf("%+v", answer)
	}
	s.offers("rank", "rerank")
}

// offers: the API lists the workload for the pool, and no other.
func (s *site) offers(id, workload string) {
	s.t.Helper()
	ctx, cancel := s.within()
	defer cancel()
	a, err := s.Get(ctx, "/v1/capabilities")
	var answer struct {
		Engines []struct {
			Workloads []string `json:"supported_workloads"`
			Pools     []string `json:"pools"`
		}
	}
	if err != nil || json.Unmarshal(a.Body, &answer) != nil {
		s.t.Fatalf("%s %v", a.Body, err)
	}
	for _, e := range answer.Engines {
		if slices.Contains(e.Pools, id) && !slices.Contains(e.Workloads, workload) {
			s.t.Errorf("%s offers %s, want %s", id, e.Workloads, workload)
		}
	}
}

// sees: an image is a part of the prompt, and another one makes the next token less or more likely.
func (s *site) sees() {
	s.wait("image", isReady)
	likely := func(shade uint8) float64 {
		picture := image.NewGray(image.Rect(0, 0, 8, 8))
		for i := range picture.Pix {
			picture.Pix[i] = shade
		}
		var file bytes.Buffer
		if err := png.Encode(&file, picture); err != nil {
			s.t.Fatal(err)
		}
		var answer struct {
			Choices []struct {
				Logprobs struct{ Content []struct{ Logprob float64 } }
			}
			Usage struct {
				Prompt int `json:"prompt_tokens"`
			}
		}
		s.engineAnswer("image", "/v1/chat/completions", `{"max_tokens":1,"temperature":0,"logprobs":true,"messages":`+
			`[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,`+
			base64.StdEncoding.EncodeToString(file.Bytes())+`"}}]}]}`, &answer)
		if len(answer.Choices) != 1 || len(answer.Choices[0].Logprobs.Content) != 1 ||
			answer.Usage.Prompt <= tinymodel.ImageTokens {
			s.t.Fatalf("%+v", answer)
		}
		return answer.Choices[0].Logprobs.Content[0].Logprob
	}
	if black, white, again := likely(0), likely(255), likely(0); math.Abs(black-again) > 1e-3 ||
		math.Abs(black-white) < 1e-2 {
		s.t.Errorf("a token has the logarithm %f for black, %f for white, %f for black again", black, white, again)
	}
}

// endless is a stream that ends when its caller does.
const endless = `{"prompt":"a","n_predict":-1,"ignore_eos":true,"stream":true}`

// fourAtOnce: a pool of four slots lends four leases and decodes four streams.
func (s *site) fourAtOnce() {
	p := s.wait("four", isReady)
	if p.SlotsTotal != 4 || p.SlotsFree != 4 {
		s.t.Fatalf("%d of %d slots are free", p.SlotsFree, p.SlotsTotal)
	}
	ctx, stop := context.WithCancel(s.t.Context())
	ended := make(chan struct{}, p.SlotsTotal)
	var leased []string
	for i := range p.SlotsTotal {
		leased = append(leased, s.lease("four", time.Minute))
		s.wait("four", freeSlots(3-i))
		go func() {
			defer func() { ended <- struct{}{} }()
			_, _ = s.AtEndpoint(ctx, p.Replicas[0].Endpoint, http.MethodPost, "/completion",
				strings.NewReader(endless)) // cut by stop
		}()
	}
	s.answer(http.StatusTooManyRequests, "POST", "/v1/pools/four/leases", `{"holder":"test","ttl_ms":60000}`)
	s.eventually(func(ctx context.Context) error {
		a, err := s.Engine(ctx, "four", http.MethodGet, "/slots", nil)
		if n := strings.Count(string(a.Body), `"is_processing":true`); err == nil && n != 4 {
			err = fmt.Errorf("%d slots are at work", n)
		}
		return err
	})
	stop()
	for range p.SlotsTotal {
		<-ended
	}
	for _, path := range leased {
		s.answer(http.StatusNoContent, "DELETE", path, "")
	}
	s.wait("four", freeSlots(4))
}

func freeSlots(n int) condition {
	return condition{fmt.Sprintf("%d free slots", n), func(p host.Pool) bool { return p.SlotsFree == n }}
}

// keepsPrompts: what a slot has read is saved to a file, and restored by another process.
func (s *site) keepsPrompts(id string) {
	p := s.wait(id, isReady)
	var done struct {
		Content  string `json:"content"`
		Saved    int    `json:"n_saved"`
		Restored int    `json:"n_restored"`
		Timings  struct {
			Cached int `json:"cache_n"`
		}
	}
	const prompt = `{"prompt":"what was said before, and is not read again","n_predict":4,"temperature":0,"id_slot":0}`
	s.engineAnswer(id, "/completion", prompt, &done)
	said := done.Content
	s.engineAnswer(id, "/slots/0?action=save", `{"filename":"a.bin"}`, &done)
	s.must("systemctl", "restart", host.EngineUnit(id))
	s.wait(id, newRun(p.Replicas[0].PID))
	s.engineAnswer(id, "/slots/0?action=restore", `{"filename":"a.bin"}`, &done)
	s.engineAnswer(id, "/completion", prompt, &done)
	if done.Saved < 40 || done.Restored != done.Saved || done.Timings.Cached < 40 || done.Content != said {
		s.t.Errorf("%+v, it said %q before", done, said)
	}
}

// isBelow: a client needs nothing but the endpoint that the API and the hand-off file have.
func (s *site) isBelow() {
	p := s.wait("below", isReady)
	completes(s.t, s, "below")
	endpoint := p.Replicas[0].Endpoint
	if out := s.shell("cat /run/pool-managerd/engines/below.r0.json"); !strings.HasSuffix(endpoint, "/models/below") ||
		!strings.Contains(out, `"url": "`+endpoint+`"`) {
		s.t.Errorf("the endpoint is %s, the hand-off file:\n%s", endpoint, out)
	}
}

// refusesNoGeneration: the test generations of the manager fit engines that serve no text.
func (s *site) refusesNoGeneration() {
	for _, id := range []string{"embed", "rank"} {
		s.wait(id, isReady)
	}
	since := fmt.Sprintf("--since=@%d", s.began.Unix())
	if out := s.must("journalctl", "--no-pager", "-u", "pool-managerd", "-o", "cat", since); strings.Contains(out,
		"test generation") {
		s.t.Errorf("the manager's own requests are refused:\n%s", out)
	}
}
