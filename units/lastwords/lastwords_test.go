package lastwords

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestChoose(t *testing.T) {
	numbered := func(n int, text string) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("%s %d", text, i))
		}
		return out
	}
	cases := []struct {
		name        string
		lines, want []string
	}{
		{"none", nil, nil},
		{"the_last_ones_where_none_tells_more", numbered(7, "step"), []string{"step 2", "step 3", "step 4", "step 5", "step 6"}},
		{"telling_lines_go_first_and_keep_their_place",
			append([]string{"ggml: cudaMalloc failed: out of memory"}, numbered(6, "step")...),
			[]string{"ggml: cudaMalloc failed: out of memory", "step 2", "step 3", "step 4", "step 5"}},
		{"the_newest_of_many_telling_lines", append(numbered(7, "error:"), "bye"), []string{"error: 2", "error: 3", "error: 4", "error: 5", "error: 6"}},
		{"what_a_caller_sent_is_not_told",
			[]string{"INFO Received request cmpl-1: prompt: 'my diagnosis is fatal'", "RuntimeError: CUDA error"}, []string{"RuntimeError: CUDA error"}},
		{"empty_lines_are_none", []string{"a", "", "  ", "b"}, []string{"a", "b"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Choose(c.lines)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLastError(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing":            {[]string{"loading", "listening"}, ""},
		"the_newest_of_them": {[]string{"error: first", "error: second token=x7f3", "bye"}, "error: second token=[hidden]"},
		"not_a_callers":      {[]string{"error: ours", "prompt: 'error: theirs'"}, "error: ours"},
	} {
		if got := LastError(c.lines); got != c.want {
			t.Errorf("%s: Says = %q, want %q", name, got, c.want)
		}
	}
}

func TestClean(t *testing.T) {
	for name, c := range map[string]struct{ line, want string }{
		"colours":  {"\x1b[31;1merror:\x1b[0m\tbad", "error: bad"},
		"control":  {"a\x00b\x07c\r", "abc"},
		"not_utf8": {"a\xffb", "a\uFFFDb"},
		"long":     {strings.Repeat("ä", 150), strings.Repeat("ä", 98) + "…"},
		"a_reason_at_the_end": {strings.Repeat("x", 5000) + " FATAL: the model is damaged",
			"…" + strings.Repeat("x", 165) + " … FATAL: the model is damaged"},
		"a_reason_within": {strings.Repeat("x ", 150) + "error: " + strings.Repeat("y", 300), "…error: " + strings.Repeat("y", 187) + "…"},
		"two_reasons": {"ERROR 500 for " + strings.Repeat("x", 300) + " out of memory of device 3",
			"ERROR 500 for " + strings.Repeat("x", 81) + " … " + strings.Repeat("x", 74) + " out of memory of device 3"},
		"a_reason_in_the_middle_of_much": {strings.Repeat("x ", 5000) + "error: lost " + strings.Repeat("y ", 5000), strings.Repeat("x ", 98) + "x…"},
		"as_long_as_it_is":               {strings.Repeat("x", Longest), strings.Repeat("x", Longest)},
	} {
		if got := Clean(c.line); got != c.want {
			t.Errorf("%s: Clean = %q, want %q", name, got, c.want)
		}
	}
	secret := strings.Repeat("s3cr3t", 10)
	if got := Clean(strings.Repeat("x", Longest-20) + " --api-key " + secret); strings.Contains(got, "s3") {
		t.Errorf("a secret at the edge is cut and shown: %q", got)
	}
}

// TestSecretsAtTheGap: no part of a secret that is cut where a long line is left out is shown.
func TestSecretsAtTheGap(t *testing.T) {
	known := " --api-key sk-" + strings.Repeat("s3cr3t", 8)
	for _, secret := range []string{known, " --api-key s3cr3t", " password is s3cr3t"} {
		for shift := range 60 {
			before := strings.Repeat("x ", scanned)[:scanned-len(secret)-5+shift]
			after := " " + strings.Repeat("z ", scanned)[:scanned-len(secret)-5+shift]
			for end, line := range map[string]string{
				"head": before + secret + strings.Repeat(" z", 3*scanned) + " error: ended",
				"tail": "error: begun" + strings.Repeat(" x", 3*scanned) + secret + after,
			} {
				got := Ends(line)
				if strings.Contains(Redact(got), "s3cr3t") || Ends(got) != got {
					t.Fatalf("%s, shift %d: %q", end, shift, got)
				}
			}
		}
	}
}

func TestRedact(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"GET https://user:pa55@hub.example/m failed", "GET https://[hidden]@hub.example/m failed"},
		{"pull from https://oauth2token@git.example/x", "pull from https://[hidden]@git.example/x"},
		{"Authorization: Bearer abcdefgh12345678", "Authorization: [hidden] [hidden]"},
		{"sent bearer abc.def-ghi_jkl=", "sent bearer [hidden]"},
		{"using hf_abcdefghijklmnopqrst to fetch", "using [hidden] to fetch"},
		{"key sk-proj-abcdefghijkl1234", "key [hidden]"},
		{"HF_TOKEN=hunter2 in the environment", "HF_TOKEN=[hidden] in the environment"},
		{`{"password": "hunter2", "n": 1}`, `{"password": "[hidden]", "n": 1}`},
		{"args: --api-key hunter2 --port 80", "args: --api-key [hidden] --port 80"},
		{"GET /m?X-Amz-Signature=0a1b2c3d&x=1: 403", "GET /m?X-Amz-Signature=[hidden]&x=1: 403"},
		{"session eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln ends", "session [hidden] ends"},

		// The counts of an engine are not secret.
		{"n_tokens = 512, n_past_tokens: 30", "n_tokens = 512, n_past_tokens: 30"},
		{"eval time = 30 ms / 12 tokens (2.5 ms per token)", "eval time = 30 ms / 12 tokens (2.5 ms per token)"},
		{"error: token limit reached", "error: token limit reached"},
		{"http://127.0.0.1:21000/health", "http://127.0.0.1:21000/health"},
		{"what():  CUDA error: out of memory at ggml-cuda.cu:72", "what():  CUDA error: out of memory at ggml-cuda.cu:72"},
	} {
		if got := Redact(c.line); got != c.want {
			t.Errorf("Redact(%q)\n = %q\nwant %q", c.line, got, c.want)
		}
	}
}

// FuzzChoose: whatever a log holds, the chosen lines are short, plain text and one line each.
func FuzzChoose(f *testing.F) {
	f.Add("a\nb\x1b[0m\nerror: \xff")
	f.Add(strings.Repeat("password=ä ", 100))
	f.Fuzz(mutate.Many(func(t *testing.T, log string) {
		chosen := Choose(strings.Split(log, "\n"))
		if len(chosen) > Most {
			t.Errorf("%d lines", len(chosen))
		}
		for _, line := range chosen {
			bad := strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) })
			if len(line) > Longest || line == "" || !utf8.ValidString(line) || bad {
				t.Errorf("%q is chosen", line)
			}
		}
	}))
}
