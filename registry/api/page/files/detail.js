// One pool in detail: why it is in its state, the last hour, its replicas, its last log lines, its unit.
import { get, poolPath, text } from "./api.js";
import { buttons } from "./actions.js";
import { badge, byId, clock, figure, groupOf, make, setText, show, since, slotsUsed } from "./dom.js";

const minute = 60000;

/** Detail shows the pool of the page's address. */
export class Detail {
  constructor(notice) {
    this.id = "";
    this.access = { may: "read" };
    this.notice = notice;
    this.charts = [];
    const again = () => this.drawCharts();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    let late = 0;
    addEventListener("resize", () => { clearTimeout(late); late = setTimeout(again, 200); });
  }

  /** open shows a pool; an empty id closes the section. */
  open(id) {
    this.id = id;
    this.history = null;
    this.destroyCharts();
    const section = byId("detail");
    show(section, id !== "");
    if (!id) return section.replaceChildren();
    const part = (name, title, ...more) => {
      this[name] = make("div", {});
      return make("section", { className: "part" + (["replicas", "unit"].includes(name) ? " wide" : "") }, make("h3", {}, title), this[name], ...more);
    };
    this.state = make("span", {});
    this.unitButton = make("button", { type: "button", onclick: () => this.showUnit() }, "Show the unit");
    this.actions = make("p", { className: "buttons" });
    section.replaceChildren(
      make("p", { className: "close" }, make("a", { href: "#", id: "close" }, "Close")),
      make("h2", { id: "detail-title" }, "Pool " + id + " ", this.state),
      this.actions,
      part("facts", "Now"),
      part("words", "Last words"),
      part("tokens", "Tokens per second, last hour"),
      part("first", "First token, last hour"),
      part("slots", "Slots in use, last hour"),
      part("past", "State history"),
      part("replicas", "Replicas"),
      part("unit", "Unit", this.unitButton));
    section.focus({ preventScroll: true });
    section.scrollIntoView({ block: "start" });
    this.shown = null;
    this.load();
  }

  /** load reads the history, which has a new point each minute. */
  async load() {
    const id = this.id;
    if (!id) return;
    try {
      const history = await get(poolPath(id, "/history"));
      if (this.id !== id) return;
      this.history = history;
      this.read = Date.now();
      this.drawHistory();
    } catch (e) {
      if (this.id === id) this.past.replaceChildren(make("p", { className: "error" }, e.message));
    }
  }

  /** update shows the pool as it is now; undefined: it is gone. */
  update(pool, access) {
    if (!this.id || (pool === this.pool && access === this.access)) return;
    const entered = !this.pool || !pool || pool.state !== this.pool.state;
    this.pool = pool;
    this.access = access;
    if (!pool) {
      this.state.replaceChildren(badge("gone", "off"));
      this.actions.replaceChildren();
      return;
    }
    const shown = JSON.stringify([pool, access.may], (k, v) => (k === "last_heartbeat_ms" ? undefined : v));
    if (shown === this.shown) return;
    const first = this.shown === null;
    this.shown = shown;
    this.state.replaceChildren(badge(pool.state));
    if (first || !this.actions.childElementCount) {
      this.actions.replaceChildren(...(access.may === "write" ? buttons(pool.id, this.notice) : []));
    }
    show(this.unitButton, access.may !== "read");
    if (access.may === "read") setText(this.unit, "It is shown to callers that may read the journal.");
    this.drawFacts(pool);
    this.drawWords(pool);
    this.drawReplicas(pool);
    if (!first && entered || this.history && Date.now() - this.read > minute) this.load();
  }

  drawFacts(p) {
    const rows = [["Why", p.replicas.map((r) => r.id + ": " + r.reason).join("; ") || "It has no replica."]];
    if (p.last_error) rows.push(["Error", make("span", { className: "error" }, p.last_error)], ["What to do", p.hint || "–"]);
    rows.push(["Model", p.model_id || "–"], ["Engine", p.engine + " " + (p.engine_version || "(version unknown)")],
      ["Slots", p.slots_total ? slotsUsed(p) + " of " + p.slots_total + " in use, " + p.active_leases + " leased" : "unknown"],
      ["Tokens per second", figure(p.perf_tokens_per_s)], ["First token", figure(p.first_token_ms, " ms")],
      ["Devices", p.device_mask.join(", ") || "CPU"],
      ["Restarts", p.restart_count + ", of which " + p.restarts_since_stable + " since it was last stable"]);
    if (p.breaker && p.breaker !== "closed") rows.push(["Breaker", p.breaker]);
    if (p.next_restart_ms) rows.push(["Next start", clock(p.next_restart_ms)]);
    if (p.drain) rows.push(["Drain", "until " + clock(p.drain.until_ms)]);
    if (p.reload) rows.push(["Reload", p.reload.model_id + ": " + p.reload.phase]);
    if (p.staging && p.staging.total_bytes) rows.push(["Download", figure(100 * p.staging.bytes / p.staging.total_bytes, " %")]);
    this.facts.replaceChildren(list(rows));
  }

  drawWords(p) {
    const out = [];
    const add = (who, d) => {
      if (!d) return;
      out.push(make("p", {}, who + " ended: " + d.result + (d.exit_status !== undefined ? ", status " + d.exit_status : "") +
        (d.signal ? ", " + d.signal : "") + "."));
      if (d.lines && d.lines.length) out.push(make("pre", { tabIndex: 0 }, d.lines.join("\n")));
      else out.push(make("p", { className: "dim" }, "No lines: " + (d.no_lines || "it logged nothing") + "."));
    };
    for (const r of p.replicas) add(r.id, r.details);
    if (!out.length) add(p.id, p.details);
    this.words.replaceChildren(...(out.length ? out : [make("p", { className: "dim" }, "No run has failed since it was last ready.")]));
  }

  drawReplicas(p) {
    const names = ["Replica", "State", "Slots", "Restarts", "PID", "Since", "Why"];
    const rows = p.replicas.map((r) => [r.id, badge(r.state), r.slots_total ? (r.ready ? r.slots_total - r.slots_free : 0) + " / " + r.slots_total : "–",
      String(r.restart_count), r.pid === null ? "–" : String(r.pid), r.since_ms ? since(r.since_ms) : "–", r.reason]);
    this.replicas.replaceChildren(make("div", { className: "scroll" }, make("table", {},
      make("thead", {}, make("tr", {}, ...names.map((n) => make("th", { scope: "col" }, n)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((v, i) => labelled(names[i], v))))))));
  }

  drawHistory() {
    const changes = [...this.history.changes].reverse();
    const minutes = this.history.points.length > 0 ? [strip(this.history.points)] : [];
    this.past.replaceChildren(...minutes, make("ol", { className: "changes" }, ...changes.map((c) =>
      make("li", {}, make("time", { dateTime: new Date(c.at_ms).toISOString() }, clock(c.at_ms)), " ", badge(c.state), " " + c.reason,
        c.code ? make("span", { className: "error" }, " " + c.code) : null))));
    this.drawCharts();
  }

  drawCharts() {
    if (!this.history) return;
    this.destroyCharts();
    this.chart(this.tokens, "Tokens per second", (p) => p.tokens_per_s, "");
    this.chart(this.first, "Time to the first token", (p) => p.first_token_ms, " ms");
    this.chart(this.slots, "Slots in use", (p) => p.slots_used, "");
  }

  destroyCharts() {
    this.charts.forEach((c) => c.destroy());
    this.charts = [];
  }

  chart(into, name, of, unit) {
    const points = this.history.points.filter((p, i, all) => i === 0 || p.at_ms > all[i - 1].at_ms); // the clock may have been set back
    const values = points.map(of), known = values.filter((v) => v !== null);
    if (known.length < 1) {
      into.replaceChildren(make("p", { className: "dim" }, points.length ? "Not known: its engine reports none." :
        "The first point is taken a minute after the manager has started, or the pool was added."));
      return;
    }
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
    const words = name + ": newest " + figure(values[values.length - 1], unit) + ", lowest " + figure(Math.min(...known), unit) +
      ", highest " + figure(Math.max(...known), unit) + ", " + points.length + (points.length === 1 ? " minute." : " minutes.");
    const box = make("div", { className: "chart", role: "img", "aria-label": words });
    into.replaceChildren(box, make("p", { className: "dim" }, words));
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
    const hours = { ...axis, values: (u, at) => at.map((s) => new Date(s * 1000).toTimeString().slice(0, 5)) };
    this.charts.push(new uPlot({
      width: Math.max(240, box.clientWidth), height: 150, legend: { show: false }, cursor: { show: false },
      scales: {
        x: { range: (u, low, high) => [Math.min(low, high - 300), high] }, // of a single point uPlot shows years
        y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] },
      },
      axes: [hours, { ...axis, size: 56 }],
      series: [{}, { stroke: style.getPropertyValue("--accent").trim(), width: 2, spanGaps: false, points: { show: points.length < 3 } }],
    }, [points.map((p) => p.at_ms / 1000), values], box));
  }

  async showUnit() {
    const id = this.id;
    try {
      const unit = await text(poolPath(id, "/unit"));
      if (this.id === id) this.unit.replaceChildren(make("pre", { tabIndex: 0 }, unit));
    } catch (e) {
      if (this.id === id) this.unit.replaceChildren(make("p", { className: "error" }, e.message + (e.hint ? ". " + e.hint : "")));
    }
  }
}

function labelled(name, value) {
  const cell = make("td", {}, value);
  cell.dataset.label = name;
  return cell;
}

const list = (rows) => make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));

// strip draws a cell for each minute, in the colour of its state.
function strip(points) {
  const ready = points.filter((p) => p.ready).length;
  return make("div", { className: "strip", role: "img", "aria-label": "Ready in " + ready + " of the last " + points.length + " minutes" },
    ...points.map((p) => make("span", { className: groupOf(p.state), title: clock(p.at_ms) + " " + p.state })));
}
