//go:build web

package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestPage tries the page in one browser, each part with a server of its own.
func TestPage(t *testing.T) {
	b := start(t)
	t.Run("first_paint", func(t *testing.T) { firstPaint(t, b) })
	t.Run("a_crash_shows_at_once", func(t *testing.T) { crashShows(t, b) })
	t.Run("many_pools", func(t *testing.T) { manyPools(t, b) })
	t.Run("hostile_texts", func(t *testing.T) { hostileTexts(t, b) })
	t.Run("rebinding", func(t *testing.T) { rebinding(t, b) })
	t.Run("other_sites", func(t *testing.T) { otherSites(t, b) })
	t.Run("token", func(t *testing.T) { asksForAToken(t, b) })
	t.Run("actions", func(t *testing.T) { actions(t, b) })
	t.Run("reader", func(t *testing.T) { reader(t, b) })
	t.Run("keyboard", func(t *testing.T) { keyboard(t, b) })
	t.Run("the_manager_restarts", func(t *testing.T) { comesBack(t, b) })
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1280, 320} {
			t.Run(fmt.Sprintf("legible/%s/%d", scheme, width), func(t *testing.T) { legible(t, b, width, scheme) })
		}
	}
}

const rows = `document.querySelectorAll("#pool-table tbody tr:not([hidden])").length`

// stateOf is an expression: the text of the state of a pool's row.
func stateOf(id string) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#pool-table tbody tr")].find(r => r.cells[0].textContent === %q)?.cells[1].textContent`, id)
}

// firstPaint: everything is there, without an error, and nothing was asked of another host.
func firstPaint(t *testing.T, b *browser) {
	s := serve(t, "")
	s.sample()
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost"))
	took := tb.until(rows + " >= 3 && document.querySelectorAll('#gpu-list .card').length === 4")
	t.Logf("the whole page after %d ms; first paint, in ms after the request: %s", took.Milliseconds(),
		tb.eval(`Math.round(performance.getEntriesByName("first-contentful-paint")[0]?.startTime)`))
	tb.until(`document.getElementById("connection").textContent.includes("Live")`)
	tb.until(`document.querySelectorAll("#event-list li").length > 0`)
	if got := tb.eval(`[...document.querySelectorAll("#event-list li")].find(l => /\b(\S+) \1\b/.test(l.textContent)) ?? ""`); got != `""` {
		t.Errorf("an event has a word twice: %s", got)
	}
	for _, request := range tb.requests {
		if !strings.HasPrefix(request, s.url("localhost")+"/") {
			t.Errorf("it asked for %s", request)
		}
	}
	tb.visit(s.url("localhost") + "/#pool=llama3-8b")
	tb.until(`document.querySelector("#detail-title")?.textContent.includes("llama3-8b")`)
	tb.until(`document.querySelectorAll("#detail .changes li").length > 0`)
	tb.eval(`[...document.querySelectorAll("#detail button")].find(b => b.textContent === "Show the unit").click()`)
	tb.until(`document.querySelector("#detail").textContent.includes("# no network but the loopback")`)
	tb.wantQuiet()
}

// crashShows: the event of a crash and the pool's new state are there without a poll: the page
// looks at the lists each five seconds by itself, and this is in the page before.
func crashShows(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(3)
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("127.0.0.1"))
	tb.until(rows + " === 3")
	tb.until(`document.getElementById("connection").textContent.includes("Live")`)
	var took []int64
	for i := range 3 {
		id := fmt.Sprintf("pool-%03d", i)
		began := time.Now()
		s.crash(id)
		tb.until(stateOf(id) + `?.includes("backoff")`)
		took = append(took, time.Since(began).Milliseconds())
		tb.until(fmt.Sprintf(`[...document.querySelectorAll("#event-list li")].some(l => l.textContent.includes("crash %s/r0"))`, id))
	}
	t.Logf("from the crash to the page, in ms: %d", took)
	tb.wantQuiet()
}

// manyPools: 250 pools are shown, filtered and sorted, and a change of one is a change of one row.
func manyPools(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(250)
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost"))
	t.Logf("250 pools after %d ms", tb.until(rows+" === 250").Milliseconds())
	tb.eval(`document.getElementById("filter").value = "pool-00"; document.getElementById("filter").dispatchEvent(new Event("input"))`)
	tb.until(rows + " === 10")
	tb.eval(`document.getElementById("filter").value = ""; document.getElementById("filter").dispatchEvent(new Event("input"))`)
	tb.until(rows + " === 250")
	tb.eval(`window.changed = 0; new MutationObserver(l => l.forEach(m => { if (m.target.closest("tbody")) window.changed++; }))
		.observe(document.getElementById("pool-table"), {subtree: true, childList: true, characterData: true, attributes: true}); 0`)
	s.crash("pool-123")
	tb.until(stateOf("pool-123") + `?.includes("backoff")`)
	if n := tb.eval("window.changed"); len(n) > 2 {
		t.Errorf("one crash changed the table %s times", n)
	}
	for i := range 250 {
		s.crash(fmt.Sprintf("pool-%03d", i))
	}
	t.Logf("250 crashes are shown after %d ms", tb.until(`document.querySelectorAll("#pool-table .badge.bad").length === 250`).
		Milliseconds())
	if n := tb.eval(`document.querySelectorAll("#event-list li").length`); n > "200" && len(n) > 3 {
		t.Errorf("%s events are kept in the page", n)
	}
	tb.wantQuiet()
}

// hostileTexts: what an engine, a user or a file wrote is shown as it is, and is no HTML.
func hostileTexts(t *testing.T, b *browser) {
	const evil = `<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>"'&amp;javascript:alert(1)`
	s := serve(t, "")
	p := serving("evil", 0)
	p.ModelID, p.Replicas[0].EngineVersion, p.Replicas[0].Reason = evil, evil, evil
	p.Replicas[0].Unanswered = []string{evil}
	s.reg.Put(registry.Aggregate(p))
	s.reg.SetProblems([]registry.Problem{{File: evil, Text: evil, Hint: evil}})
	device := registry.Device{UUID: evil, Name: evil, Health: registry.HealthDegraded, Pools: []string{evil},
		Failure: registry.Fail(registry.CodeDriverError, evil, evil),
		Memory:  &registry.VRAM{Total: 100, Free: 50, Used: 50}}
	s.reg.SetDevices(registry.Devices{Taken: time.Now(), Driver: registry.Driver{Version: evil},
		Devices: []registry.Device{device}})
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost") + "/#pool=evil")
	tb.until(rows + " === 1")
	tb.until(`document.querySelector("#pool-table").textContent.includes("window.hacked=2")`)
	s.crash("evil", evil, "\x1b[31m"+evil, "</pre>"+evil, "\u202e"+evil)
	tb.until(`document.querySelector("#detail pre")?.textContent.includes("</pre><img")`)
	tb.until(`document.querySelectorAll("#event-list li").length > 0`)
	s.reg.Note(registry.Event{Kind: registry.KindBreaker, PoolID: "evil", State: registry.StateFailed, Cause: evil})
	tb.until(`document.querySelector("#event-list").textContent.includes("window.hacked=2")`)
	if got := tb.eval(`[window.hacked, document.images.length, document.querySelectorAll("body script").length].join()`); got != `",0,0"` {
		t.Errorf("the text has become a part of the page: %s", got)
	}
	tb.wantQuiet()
	tb.eval(`(() => { const s = document.createElement("p"); try { s.innerHTML = "<b>x</b>"; } catch { window.refused = true; } })()`)
	if tb.eval("window.refused") != "true" {
		t.Error("the policy lets a text become HTML")
	}
}

// rebinding: a name that was made to resolve to this host gets nothing.
func rebinding(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(1)
	tb := b.open(t, 1280, "light")
	for _, path := range []string{"/", "/page/main.js", "/v1/pools", "/health", "/metrics"} {
		tb.visit(s.url("evil.example") + path)
		tb.until(`document.body?.innerText.includes("FORBIDDEN")`)
	}
	got := tb.eval(`fetch("/v1/pools/pool-000/drain", {method: "POST", headers: {"Content-Type": "application/json",
		"X-Requested-With": "x", "X-Forwarded-For": "127.0.0.1"}, body: "{}"}).then(r => r.status)`)
	if asked := s.operator.took(); got != "403" || len(asked) > 0 {
		t.Errorf("status %s, %q", got, asked)
	}
}

// otherSites: a page of another origin neither reads nor changes anything, nor frames the page.
func otherSites(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(1)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<iframe id=f src=%q></iframe><form id=g method=post enctype=text/plain action=%q><input name="{}"></form>`,
			s.url("localhost")+"/", s.url("localhost")+"/v1/pools/pool-000/drain")
	}))
	defer other.Close()
	tb := b.open(t, 1280, "light")
	tb.visit(other.URL)
	tb.until(`document.getElementById("g")`)
	target := s.url("localhost") + "/v1/pools/pool-000/drain"
	for _, script := range []string{
		fmt.Sprintf(`fetch(%q, {method: "POST", mode: "no-cors", body: "{}"}).then(() => 0, () => 0)`, target),
		fmt.Sprintf(`fetch(%q, {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"}).then(() => 1, () => 0)`, target),
		fmt.Sprintf(`fetch(%q, {method: "POST", headers: {"X-Requested-With": "x"}, body: "{}"}).then(() => 1, () => 0)`, target),
		fmt.Sprintf(`fetch(%q).then(() => 1, () => 0)`, s.url("localhost")+"/v1/pools"),
	} {
		if got := tb.eval(script); got != "0" {
			t.Errorf("%s: %s", script, got)
		}
	}
	tb.eval(`document.getElementById("g").submit()`)
	tb.until(`document.body?.innerText.includes("FORBIDDEN")`)
	if asked := s.operator.took(); len(asked) > 0 {
		t.Errorf("another site has asked for %q", asked)
	}
}

// asksForAToken: where one is needed the page asks for it, keeps it in the tab alone and sends it.
func asksForAToken(t *testing.T, b *browser) {
	s := serve(t, "the-right-one name=all\nonly-some name=some scope=read pools=pool-001,pool-002\n")
	s.many(3)
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost"))
	use := func(token string) {
		t.Helper()
		tb.until(`document.getElementById("token-dialog").open`)
		tb.eval(`document.getElementById("token").focus()`)
		tb.fill(token)
		tb.press("Enter", 13, "\r")
	}
	use("a-wrong-one")
	tb.until(`document.getElementById("token-text").textContent.includes("wrong")`)
	if got := tb.eval(rows); got != "0" {
		t.Errorf("%s rows without a token", got)
	}
	use("the-right-one")
	tb.until(rows + " === 3")
	tb.until(`document.getElementById("connection").textContent.includes("Live")`)
	if got := tb.eval(`[sessionStorage.length, localStorage.length, document.cookie, location.href.includes("right")].join()`); got !=
		`"1,0,,false"` {
		t.Errorf("what is kept: %s", got)
	}
	tb.do("Page.reload", map[string]any{})
	tb.until(rows + " === 3")
	for _, request := range tb.requests {
		if strings.Contains(request, "right-one") {
			t.Errorf("the token is in an address: %s", request)
		}
	}
	tb.eval(`document.getElementById("token-button").click()`)
	use("only-some")
	tb.until(rows + " === 2")
	s.crash("pool-002")
	tb.until(stateOf("pool-002") + `?.includes("backoff")`)
	s.crash("pool-000")
	if got := tb.eval(`document.getElementById("event-list").textContent.includes("pool-000")`); got != "false" {
		t.Error("a token for some pools shows events of another")
	}
	tb.wantQuiet("401")
}

// actions: each asks before it does anything, and shows why it was refused.
func actions(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(1)
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost") + "/#pool=pool-000")
	press := func(label string) {
		t.Helper()
		tb.until(fmt.Sprintf(`[...document.querySelectorAll("#detail .buttons button")].find(b => b.textContent === %q)`, label))
		tb.eval(fmt.Sprintf(`[...document.querySelectorAll("#detail .buttons button")].find(b => b.textContent === %q).click()`, label))
		tb.until(`document.getElementById("action-dialog").open`)
	}
	confirm := func(want string) {
		t.Helper()
		tb.eval(`document.getElementById("action-do").click()`)
		tb.until(`!document.getElementById("action-dialog").open`)
		if asked := s.operator.took(); len(asked) != 1 || asked[0] != want {
			t.Errorf("asked for %q, want %q", asked, want)
		}
		tb.until(`document.getElementById("notice").textContent.includes("is accepted")`)
	}
	press("Drain…")
	tb.eval(`document.getElementById("action-cancel").click()`)
	tb.until(`!document.getElementById("action-dialog").open`)
	if asked := s.operator.took(); len(asked) > 0 {
		t.Errorf("a question that was not answered asked for %q", asked)
	}
	press("Drain…")
	tb.eval(`document.getElementById("field-deadline").value = "90"; document.getElementById("field-restart").checked = true`)
	confirm("drain pool-000 1m30s, then restart")
	press("Resume…")
	confirm("resume pool-000")
	press("Reload…")
	tb.eval(`document.getElementById("field-model").value = "hf:org/new"`)
	confirm("reload pool-000 hf:org/new false")
	press("Reset…")
	tb.eval(`document.getElementById("action-do").click()`)
	tb.until(`document.getElementById("action-error").textContent === "STATE_NOT_SAVED: <b>the disk is full</b>. Free some space."`)
	tb.wantQuiet("503")
}

// reader: a caller that may only read is offered nothing else.
func reader(t *testing.T, b *browser) {
	s := serve(t, "secret name=r scope=read\n")
	s.many(1)
	s.crash("pool-000", "a line with a secret")
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost") + "/#pool=pool-000")
	tb.until(`document.getElementById("token-dialog").open`)
	tb.eval(`document.getElementById("token").value = "secret"; document.getElementById("token-form").requestSubmit()`)
	tb.until(`document.getElementById("identity").textContent.includes("read only")`)
	tb.until(`document.querySelector("#detail-title")?.textContent.includes("backoff")`)
	got := tb.eval(`[document.querySelectorAll("#detail .buttons button").length,
		[...document.querySelectorAll("#detail button")].filter(b => !b.hidden).length,
		document.body.textContent.includes("a line with a secret")].join()`)
	if got != `"0,0,false"` {
		t.Errorf("buttons, others, lines: %s", got)
	}
	tb.wantQuiet("401")
}

// keyboard: the page is used without a mouse.
func keyboard(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(2)
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost"))
	tb.until(rows + " === 2")
	for range 40 {
		tb.press("Tab", 9, "")
		if tb.eval(`document.activeElement.textContent`) == `"pool-001"` {
			break
		}
	}
	tb.press("Enter", 13, "\r")
	tb.until(`document.querySelector("#detail-title")?.textContent.includes("pool-001")`)
	tb.press("Escape", 27, "")
	tb.until(`document.getElementById("detail").hidden`)
	tb.wantQuiet()
}

// comesBack: a page that has lost its server connects again by itself.
func comesBack(t *testing.T, b *browser) {
	s := serve(t, "")
	s.many(1)
	tb := b.open(t, 1280, "light")
	tb.visit(s.url("localhost"))
	tb.until(`document.getElementById("connection").textContent.includes("Live")`)
	tb.do("Network.emulateNetworkConditions", map[string]any{"offline": true, "latency": 0, "downloadThroughput": -1,
		"uploadThroughput": -1})
	tb.until(`document.getElementById("connection").textContent.includes("Not connected")`)
	s.crash("pool-000")
	tb.do("Network.emulateNetworkConditions", map[string]any{"offline": false, "latency": 0, "downloadThroughput": -1,
		"uploadThroughput": -1})
	tb.until(stateOf("pool-000") + `?.includes("backoff")`)
}

// legible: each text has a contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), what can be operated
// has a name, and nothing is wider than the window.
func legible(t *testing.T, b *browser, width int, scheme string) {
	s := serve(t, "")
	s.sample()
	s.crash("pool-000", "CUDA error: "+strings.Repeat("x", 180))
	tb := b.open(t, width, scheme)
	tb.visit(s.url("localhost") + "/#pool=pool-000")
	tb.until(rows + ` >= 4 && document.querySelector("#detail pre") && document.querySelectorAll("#gpu-list .card").length === 4`)
	tb.until(`document.querySelectorAll("#event-list li").length > 0 && document.querySelectorAll("#detail .changes li").length > 0`)
	var faults []string
	if err := json.Unmarshal([]byte(tb.eval(lint)), &faults); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Error(f)
	}
	if got := tb.eval(`document.documentElement.scrollWidth`); got != fmt.Sprint(width) {
		t.Errorf("the page is %s wide, the window %d", got, width)
	}
	tb.wantQuiet()
}

// lint returns what is wrong with the page's texts and names.
const lint = `(() => {
	const faults = [];
	const rgb = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
		return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
		if (c.length < 4 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let texts = 0;
	while (walker.nextNode()) {
		const e = walker.currentNode.parentElement;
		if (!walker.currentNode.textContent.trim() || !e.checkVisibility() || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
		texts++;
		const a = light(rgb(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e));
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) faults.push("contrast " + ratio.toFixed(2) + " of " + e.tagName + "." + e.className + ": " + walker.currentNode.textContent.slice(0, 40));
	}
	if (texts < 50) faults.push("only " + texts + " texts were looked at");
	for (const e of document.querySelectorAll("button, a, input, [role=img], section")) {
		const name = e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels[0] && e.labels[0].textContent.trim()) ||
			document.getElementById(e.getAttribute("aria-labelledby"))?.textContent;
		if (!name) faults.push(e.tagName + "#" + e.id + "." + e.className + " has no name");
	}
	const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
	for (const id of new Set(ids)) if (ids.filter(i => i === id).length > 1) faults.push("the id " + id + " is there twice");
	return faults;
})()`
