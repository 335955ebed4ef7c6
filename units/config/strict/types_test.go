package strict

import (
	"fmt"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "1": 1, "1024": 1024, "1K": 1 << 10, "1KiB": 1 << 10, "24G": 24 << 30, "24GiB": 24 << 30, "3M": 3 << 20, "2T": 2 << 40,
		"9223372036854775807": 1<<63 - 1,
	} {
		if got, err := ParseSize(in); got != want || err != nil {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "G", "-1G", "+1", "1.5G", "24GB", "24g", "24 G", "1E", "0x10",
		"9223372036854775808", "99999999T", "１G"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q is %d; want an error", in, got)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 bytes", 24: "24 bytes", 1 << 10: "1K", 1536: "1536 bytes",
		24 << 30: "24G", 1 << 50: "1024T"} {
		if got := FormatSize(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{"1.5s": 1500 * time.Millisecond, "1h30m": 90 * time.Minute,
		"250ms": 250 * time.Millisecond, "0s": 0, "-1s": -time.Second} {
		if got, err := ParseDuration(in); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "5", "0", "1.5", "5 s", "5sec", "1d", "s", "999999999h"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q is %v; want an error", in, got)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 30 * time.Second: "30s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m",
		10 * time.Minute: "10m", 20 * time.Hour: "20h", time.Hour + time.Second: "1h0m1s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v is %q, want %q", int64(d), got, want)
		}
	}
}

func TestQuote(t *testing.T) {
	long := "äääääääääääääääääääääääääääääääääääää" // 74 bytes
	for in, want := range map[string]string{
		"a": `"a"`, "a\nb": `"a\nb"`, "\x1b[31m": `"\x1b[31m"`, long: fmt.Sprintf(`"%s"… (74 bytes)`, long[:60]), "": `""`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	paths := []string{"id", "ctx", "slots", "devices", "env.*", "limits.memory_max", "limits.cpus", "health.interval",
		"health.timeout", "restart.max"}
	for _, c := range []struct{ prefix, key, want string }{
		{"", "device", "devices"},
		{"", "slot", "slots"},
		{"", "Devices", "devices"},
		{"", "limit", "limits"},
		{"", "memory_max", "limits.memory_max"},
		{"", "max", "restart.max"},
		{"limits", "memroy-max", "limits.memory_max"},
		{"limits", "memory", "limits.memory_max"},
		{"limits", "interval", "health.interval"},
		{"health", "timeuot", "health.timeout"},
		{"", "x", ""},
		{"", "zebra", ""},
		{"", "environment", ""},
	} {
		if got := suggest(paths, c.prefix, c.key); got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.key, c.prefix, got, c.want)
		}
	}
}

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		p    Problem
		want string
	}{
		{Problem{File: "llama.toml", Line: 12, Column: 9, Message: "replicas is 0", Allowed: "1-8"}, "llama.toml:12:9: replicas is 0; want 1-8"},
		{Problem{File: "llama.toml", Message: "the file is empty"}, "llama.toml: the file is empty"},
		{Problem{File: "a\nb.toml", Message: "x"}, `"a\nb.toml": x`},
	} {
		if got := c.p.Error(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if c.p.Action() == "" {
			t.Errorf("no hint: %s", c.want)
		}
	}
}
