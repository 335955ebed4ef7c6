//go:build web

package web

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take on a busy host. It is no claim about the page's speed.
const patience = 60 * time.Second

// browser is a headless Chromium, driven over a pipe (--remote-debugging-pipe: messages of JSON,
// each with a NUL behind it).
type browser struct {
	out *os.File

	mu      sync.Mutex
	id      int
	waiting map[int]chan message
	hear    func(message)
}

// message is one of the DevTools protocol, in either direction.
type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// programs are Debian's names of the browser, and those of others.
var programs = []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"}

// start starts the browser, until the test ends.
func start(t *testing.T) *browser {
	t.Helper()
	program := ""
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Fatal("there is no Chromium: apt-get install chromium-headless-shell")
	}
	toIn, toOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromIn, fromOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// evil.example is this host, as a web page with a name server of its own can make it.
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "--no-first-run", "--disable-extensions",
		"--disable-background-networking", "--hide-scrollbars", "--host-resolver-rules=MAP evil.example 127.0.0.1",
		"about:blank")
	cmd.ExtraFiles = []*os.File{toIn, fromOut}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toIn.Close()
	fromOut.Close()
	b := &browser{out: toOut, waiting: make(map[int]chan message)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.read(fromIn)
	}()
	t.Cleanup(func() {
		toOut.Close()
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // as killed
		<-read
		fromIn.Close()
	})
	return b
}

// read delivers what the browser sends, until it ends.
func (b *browser) read(from *os.File) {
	r := bufio.NewReaderSize(from, 1<<20)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			break
		}
		var m message
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		answer, hear := b.waiting[m.ID], b.hear
		delete(b.waiting, m.ID)
		b.mu.Unlock()
		switch {
		case m.ID != 0 && answer != nil:
			answer <- m
		case m.ID == 0 && hear != nil:
			hear(m)
		}
	}
}

// call sends a command and returns its result.
func (b *browser) call(session, method string, params any) (json.RawMessage, error) {
	body, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.id++
	m := message{ID: b.id, SessionID: session, Method: method, Params: body}
	answer := make(chan message, 1)
	b.waiting[m.ID] = answer
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.out.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case got := <-answer:
		if got.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, got.Error.Message)
		}
		return got.Result, nil
	case <-time.After(patience):
		return nil, errors.New(method + " has no answer")
	}
}

// tab is one page of the browser.
type tab struct {
	t       *testing.T
	b       *browser
	session string

	mu       sync.Mutex
	errors   []string // of scripts, and of the policy
	requests []string // the addresses that were asked for
}

// open opens a tab of a width, in light or dark colours, with storage of its own.
func (b *browser) open(t *testing.T, width int, scheme string) *tab {
	t.Helper()
	tb := &tab{t: t, b: b}
	var context struct {
		BrowserContextID string `json:"browserContextId"`
	}
	tb.into(&context, "", "Target.createBrowserContext", map[string]any{})
	var target struct {
		TargetID string `json:"targetId"`
	}
	tb.into(&target, "", "Target.createTarget", map[string]any{"url": "about:blank", "width": width, "height": 900,
		"browserContextId": context.BrowserContextID})
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	tb.into(&attached, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	tb.session = attached.SessionID
	b.mu.Lock()
	b.hear = tb.heard
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		tb.do(domain+".enable", map[string]any{})
	}
	tb.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1,
		"mobile": width < 600})
	tb.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": scheme}}})
	t.Cleanup(func() {
		if _, err := b.call("", "Target.disposeBrowserContext", context); err != nil {
			t.Log(err)
		}
	})
	return tb
}

// heard notes what the page asks for, and what goes wrong in it.
func (tb *tab) heard(m message) {
	if m.SessionID != tb.session {
		return
	}
	var p struct {
		Request struct {
			URL string `json:"url"`
		} `json:"request"`
		Entry struct {
			Level, Text, URL string
		} `json:"entry"`
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	}
	if json.Unmarshal(m.Params, &p) != nil {
		return
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	switch m.Method {
	case "Network.requestWillBeSent":
		tb.requests = append(tb.requests, p.Request.URL)
	case "Log.entryAdded":
		if p.Entry.Level == "error" {
			tb.errors = append(tb.errors, p.Entry.Text+" "+p.Entry.URL)
		}
	case "Runtime.exceptionThrown":
		tb.errors = append(tb.errors, p.ExceptionDetails.Text+" "+p.ExceptionDetails.Exception.Description)
	}
}

func (tb *tab) do(method string, params any) json.RawMessage {
	tb.t.Helper()
	result, err := tb.b.call(tb.session, method, params)
	if err != nil {
		tb.t.Fatal(err)
	}
	return result
}

func (tb *tab) into(v any, session, method string, params any) {
	tb.t.Helper()
	result, err := tb.b.call(session, method, params)
	if err == nil {
		err = json.Unmarshal(result, v)
	}
	if err != nil {
		tb.t.Fatal(err)
	}
}

// visit opens an address.
func (tb *tab) visit(url string) {
	tb.t.Helper()
	tb.do("Page.navigate", map[string]any{"url": url})
}

// eval returns the value of an expression in the page, which may be a promise, as JSON.
func (tb *tab) eval(expression string) string {
	tb.t.Helper()
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails *struct {
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	}
	tb.into(&got, tb.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true,
		"returnByValue": true, "userGesture": true})
	if got.ExceptionDetails != nil {
		tb.t.Fatalf("%s: %s", expression, got.ExceptionDetails.Exception.Description)
	}
	return string(got.Result.Value)
}

// until waits until an expression is true in the page, and returns how long that took.
func (tb *tab) until(expression string) time.Duration {
	tb.t.Helper()
	began := time.Now()
	for time.Since(began) < patience {
		if tb.eval("(() => { try { return !!("+expression+"); } catch { return false; } })()") == "true" {
			return time.Since(began)
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.t.Fatalf("never true: %s\nthe page: %s\nerrors: %q", expression, tb.eval("document.body.innerText"), tb.errors)
	return 0
}

// press presses a key.
func (tb *tab) press(key string, code int, text string) {
	tb.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		p := map[string]any{"type": kind, "key": key, "windowsVirtualKeyCode": code}
		if kind == "keyDown" && text != "" {
			p["text"] = text
		}
		tb.do("Input.dispatchKeyEvent", p)
	}
}

// fill writes into the input that has the focus.
func (tb *tab) fill(text string) {
	tb.t.Helper()
	tb.do("Input.insertText", map[string]any{"text": text})
}

// wantQuiet fails for each error of a script or of the policy, but those that contain a word.
func (tb *tab) wantQuiet(but ...string) {
	tb.t.Helper()
	tb.mu.Lock()
	defer tb.mu.Unlock()
next:
	for _, e := range tb.errors {
		for _, word := range but {
			if strings.Contains(e, word) {
				continue next
			}
		}
		tb.t.Errorf("the browser logged: %s", e)
	}
}

// picture returns a screenshot, of the whole page or of its beginning.
func (tb *tab) picture(width, height int) []byte {
	tb.t.Helper()
	var got struct {
		Data string `json:"data"`
	}
	tb.into(&got, tb.session, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true,
		"clip": map[string]any{"x": 0, "y": 0, "width": width, "height": height, "scale": 1}})
	body, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		tb.t.Fatal(err)
	}
	return body
}
