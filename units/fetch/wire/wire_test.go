package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func request() Request {
	return Request{Version: 1, Ref: "hf:a/b", CacheDir: "/var/cache/m", Directory: "models--a--b",
		Hosts: map[string][]string{"hub.example": {"203.0.113.7", "2001:db8::1"}}}
}

func TestReadRequest(t *testing.T) {
	data, err := json.Marshal(request())
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadRequest(strings.NewReader(string(data) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(request(), got); diff != "" {
		t.Error(diff)
	}
}

func TestReadRequestRefuses(t *testing.T) {
	for problem, change := range map[string]func(*Request){
		"version is 2":             func(r *Request) { r.Version = 2 },
		"ref is missing":           func(r *Request) { r.Ref = "" },
		"digest is not":            func(r *Request) { r.Digest = "sha256:ABC" },
		"cache_dir is no absolute": func(r *Request) { r.CacheDir = "models" },
		"not one plain name":       func(r *Request) { r.Directory = "../x" },
		"connections is not in":    func(r *Request) { r.Connections = 65 },
		"a limit is negative":      func(r *Request) { r.MaxBytes = -1 },
		"ca_file is no absolute":   func(r *Request) { r.CAFile = "x" },
		"no host name":             func(r *Request) { r.Hosts = map[string][]string{"Hub": {"::1"}} },
		"has 0 addresses":          func(r *Request) { r.Hosts = map[string][]string{"hub": nil} },
		"no IP address":            func(r *Request) { r.Hosts = map[string][]string{"hub": {"localhost"}} },
	} {
		r := request()
		change(&r)
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ReadRequest(strings.NewReader(string(data)))
		if err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", problem, err)
		}
	}
	for text, problem := range map[string]string{
		"":                                    "no JSON object",
		`{"version":1,"later":1}`:             "unknown field",
		`{} {}`:                               "followed by something",
		strings.Repeat(" ", MaxRequest) + " ": "longer than",
	} {
		if _, err := ReadRequest(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%.40q: %v, want %s", text, err, problem)
		}
	}
	if _, err := ReadRequest(io.MultiReader(strings.NewReader("{"), failing{})); err == nil {
		t.Error("an input that cannot be read is a request")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// events has one of each kind, as a program prints them.
func events() []Event {
	return []Event{
		{Kind: Plan, Commit: "c0ffee", Files: 2, Total: 10, Present: 4},
		{Kind: Progress, Bytes: 7, Total: 10, Rate: 3, File: "dir/x.gguf"},
		{Kind: Result, Commit: "c0ffee", Files: 1, Bytes: 10, Path: "/m/d/snapshots/c0ffee/dir/x.gguf",
			Digest: "sha256:" + strings.Repeat("0a", 32)},
		{Kind: Failed, Reason: RateLimited, Message: "hub.example asks to wait", Hint: "Wait.", RetryAfterMS: 55000},
		{Kind: Hosts, Hosts: map[string][]string{"hub.example": {"203.0.113.7"}}},
	}
}

// TestDecoder: events arrive whole, in whatever pieces they are read.
func TestDecoder(t *testing.T) {
	var out []byte
	for _, e := range events() {
		out = e.Append(out)
	}
	for _, size := range []int{1, 7, 100, len(out)} {
		var d Decoder
		var got []Event
		for piece := range slices.Chunk(out, size) {
			got = append(got, d.Feed(piece)...)
		}
		if diff := cmp.Diff(events(), got); diff != "" {
			t.Errorf("pieces of %d bytes:\n%s", size, diff)
		}
		if n, err := d.Bad(); n != 0 {
			t.Errorf("%d lines are bad: %v", n, err)
		}
	}
}

// TestDecoderHostile: what is no event is counted and dropped, and the next line is read.
func TestDecoderHostile(t *testing.T) {
	good := string(Event{Kind: Plan, Commit: "x"}.Append(nil))
	for name, c := range map[string]struct{ line, problem string }{
		"no_json":          {"Downloading 3 %…", "no event in JSON"},
		"other_json":       {`[1,2]`, "no event in JSON"},
		"endless":          {strings.Repeat("x", 10*MaxLine), "more than 4096 bytes"},
		"unknown_kind":     {`{"event":"exec"}`, "unknown kind"},
		"negative":         {`{"event":"progress","bytes":-1}`, "out of bounds"},
		"huge":             {`{"event":"progress","bytes":2305843009213693952}`, "out of bounds"},
		"fraction":         {`{"event":"progress","bytes":1e300}`, "no event in JSON"},
		"many_files":       {`{"event":"plan","files":99999999}`, "out of bounds"},
		"long_pause":       {`{"event":"error","reason":"network","retry_after_ms":9999999999}`, "out of bounds"},
		"escape_sequence":  {`{"event":"error","reason":"network","message":"\u001b[2J"}`, "control characters"},
		"unknown_reason":   {`{"event":"error","reason":"whim"}`, "unknown reason"},
		"commit_climbs":    {`{"event":"plan","commit":".."}`, "not one plain name"},
		"commit_is_a_path": {`{"event":"result","commit":"a/b","path":"/x"}`, "not one plain name"},
		"no_commit":        {`{"event":"result","path":"/x"}`, "without a commit"},
		"relative_path":    {`{"event":"result","commit":"a","path":"x"}`, "not absolute"},
		"climbing_path":    {`{"event":"result","commit":"a","path":"/m/../etc/passwd"}`, "not absolute"},
		"digest":           {`{"event":"result","commit":"a","path":"/x","digest":"md5:1"}`, "digest is not"},
		"address":          {`{"event":"hosts","hosts":{"a":["b"]}}`, "no IP address"},
	} {
		t.Run(name, func(t *testing.T) {
			var d Decoder
			got := d.Feed([]byte(good + c.line + "\n\n" + good))
			n, err := d.Bad()
			if len(got) != 2 || n != 1 || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%d events, %d bad lines: %v, want %q", len(got), n, err, c.problem)
			}
			if cap(d.line) > 4*MaxLine {
				t.Errorf("the decoder keeps %d bytes", cap(d.line))
			}
		})
	}
}

// TestIn: a result leads into the snapshot of the directory that was asked for, and nowhere else.
func TestIn(t *testing.T) {
	for path, want := range map[string]bool{
		"/var/cache/m/models--a--b/snapshots/c":        true,
		"/var/cache/m/models--a--b/snapshots/c/x.gguf": true,
		"/var/cache/m/models--a--b/snapshots/cc":       false,
		"/var/cache/m/models--a--b/blobs/x":            false,
		"/etc/passwd":                                  false,
	} {
		e := Event{Kind: Result, Commit: "c", Path: path}
		if got := e.In(request()); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestAppendIsRead: however long and odd the texts are, a line that this package prints is one that
// it reads.
func TestAppendIsRead(t *testing.T) {
	for _, text := range []string{"a\nb", "\xff\x1b", strings.Repeat("ä", 3000), strings.Repeat(`"\<`, 900)} {
		for _, e := range []Event{
			{Kind: Failed, Reason: Network, Message: text, Hint: text},
			{Kind: Progress, File: text},
		} {
			line := e.Append(nil)
			if len(line) > MaxLine || !utf8.Valid(line) {
				t.Errorf("%.20q: a line of %d bytes", text, len(line))
			}
			if got, err := Parse(line[:len(line)-1]); err != nil || got.Kind != e.Kind || got.Reason != e.Reason {
				t.Errorf("%.20q: %+v, %v", text, got, err)
			}
		}
	}
}

func TestExit(t *testing.T) {
	for reason, want := range map[Reason]int{Gated: ExitFailed, BadRequest: ExitUsage, Network: ExitLater,
		"whim": ExitFailed} {
		if got := reason.Exit(); got != want || reason.Temporary() != (want == ExitLater) {
			t.Errorf("%s: exit status %d, temporary %v", reason, got, reason.Temporary())
		}
	}
}

// TestPage: the documentation of the protocol has each reason with its exit status, and each field
// of a request and of an event.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/provisioners.md")
	if err != nil {
		t.Fatal(err)
	}
	for reason, status := range exits {
		if row := fmt.Sprintf("| `%s` | %d |", reason, status); !strings.Contains(string(page), row) {
			t.Errorf("the page has no row %s", row)
		}
	}
	for _, of := range []reflect.Type{reflect.TypeFor[Request](), reflect.TypeFor[Event]()} {
		for field := range of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "hosts" && !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("the page does not name %s", name)
			}
		}
	}
}

// FuzzDecoder: whatever a program prints, each event is within its bounds and prints as itself, and
// pieces make no difference.
func FuzzDecoder(f *testing.F) {
	for _, e := range events() {
		f.Add(e.Append(nil), 3)
	}
	f.Add([]byte("{\"event\":\"progress\",\"file\":\"\\ud800\"}\n{}\n\xff\n"), 1)
	f.Fuzz(mutate.Many(func(t *testing.T, out []byte, size int) {
		var whole, parts Decoder
		want := whole.Feed(out)
		var got []Event
		for piece := range slices.Chunk(out, min(max(size, 1), 1<<16)) {
			got = append(got, parts.Feed(piece)...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, e := range got {
			if err := e.check(); err != nil {
				t.Errorf("%+v: %v", e, err)
			}
			line := e.Append(nil) // of a result or hosts, what is too long is left out
			if _, err := Parse(line[:len(line)-1]); err != nil && e.Kind != Result && e.Kind != Hosts {
				t.Errorf("%+v is printed so that it is not read: %v", e, err)
			}
		}
		if strings.Count(string(out), "\n") < len(got) {
			t.Error(fmt.Sprint("more events than lines: ", len(got)))
		}
	}))
}

// FuzzRequest: a request that is read is one that can be sent again.
func FuzzRequest(f *testing.F) {
	data, _ := json.Marshal(request())
	f.Add(string(data))
	f.Add(`{"version":1,"ref":"x","cache_dir":"/","directory":"a","hosts":{"a":["::1%lo"]}}`)
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		r, err := ReadRequest(strings.NewReader(text))
		if err != nil {
			return
		}
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadRequest(strings.NewReader(string(data)))
		if err != nil || cmp.Diff(r, again, cmpopts.EquateEmpty()) != "" {
			t.Errorf("%s: %+v, %v", data, again, err)
		}
	}))
}
