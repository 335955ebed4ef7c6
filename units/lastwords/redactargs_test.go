package lastwords

import (
	"slices"
	"testing"
)

func TestRedactArgs(t *testing.T) {
	in := []string{"-m", "/m.gguf", "--api-key", "plain words", "--api-key=abc", "--max-num-batched-tokens", "4096", "--tokenizer", "/t",
		"--hf-token", "--slots", "sk-0123456789abcdef", "--api-ke", "short", "--api_k=er", "--api-prefix", "/x", "--api-key"}
	want := []string{"-m", "/m.gguf", "--api-key", "[hidden]", "--api-key=[hidden]", "--max-num-batched-tokens", "4096", "--tokenizer", "/t",
		"--hf-token", "--slots", "[hidden]", "--api-ke", "[hidden]", "--api_k=[hidden]", "--api-prefix", "/x", "--api-key"}
	before := slices.Clone(in)
	if got := RedactArgs(in); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if !slices.Equal(in, before) {
		t.Error("the arguments were changed")
	}
	if got := RedactArgs(nil); got == nil || len(got) != 0 {
		t.Errorf("of none: %#v", got)
	}
}
