// The table of pools. A row is made once, and its cells are changed where they differ: 250 pools that
// change each second cost the changes alone.
import { badge, byId, figure, groupOf, make, meter, setText, show, slotsUsed } from "./dom.js";

const order = { bad: 0, wait: 1, busy: 2, off: 3, good: 4 };
const slots = (p) => (p.slots_total ? slotsUsed(p) + " / " + p.slots_total : "–");

const columns = [
  { name: "Pool", text: (p) => p.id, by: (p) => p.id },
  { name: "State", text: (p) => p.state, by: (p) => order[groupOf(p.state)], draw: (cell, p) => cell.replaceChildren(badge(p.state)) },
  { name: "Slots", text: slots, by: (p) => slotsUsed(p), draw: drawSlots, number: true },
  { name: "Leases", text: (p) => String(p.active_leases), by: (p) => p.active_leases, number: true },
  { name: "Tokens/s", text: (p) => figure(p.perf_tokens_per_s), by: (p) => p.perf_tokens_per_s ?? -1, number: true },
  { name: "First token", text: (p) => figure(p.first_token_ms, " ms"), by: (p) => p.first_token_ms ?? -1, number: true },
  { name: "Restarts", text: (p) => String(p.restart_count), by: (p) => p.restart_count, number: true },
  { name: "Devices", text: devices, by: devices },
  { name: "Engine", text: engine, by: engine },
  { name: "Model", text: (p) => p.model_id || "–", by: (p) => p.model_id || "" },
];

function devices(p) {
  if (!p.devices.length) return p.device_mask.length ? p.device_mask.map(short).join(", ") : "CPU";
  return p.devices.map((d) => (d.id.length > 16 ? short(d.id) : d.id) + (d.name ? " " + d.name : "")).join(", ");
}
const short = (uuid) => (uuid.length > 16 ? uuid.slice(0, 12) + "…" : uuid);

function engine(p) {
  return p.engine ? p.engine + (p.engine_version ? " " + p.engine_version : "") : "–";
}

function drawSlots(cell, p) {
  cell.replaceChildren(slots(p));
  if (p.slots_total) cell.append(meter(slotsUsed(p) / p.slots_total));
}

/** PoolTable is the table, with its filter and its order. */
export class PoolTable {
  constructor() {
    this.rows = new Map();
    this.sort = { column: 0, up: true };
    this.pools = [];
    this.selected = "";
    this.buttons = columns.map((c, i) => make("button", { type: "button", onclick: () => this.sortBy(i) }, c.name));
    this.heads = columns.map((c, i) => make("th", { scope: "col", className: c.number ? "number" : "" }, this.buttons[i]));
    byId("pool-table").tHead.replaceChildren(make("tr", {}, ...this.heads));
    this.body = byId("pool-table").tBodies[0];
    byId("filter").addEventListener("input", () => this.arrange());
    byId("unready").addEventListener("change", () => this.arrange());
    this.mark();
  }

  sortBy(column) {
    this.sort = { column, up: this.sort.column === column ? !this.sort.up : !columns[column].number };
    this.mark();
    this.arrange();
  }

  mark() {
    this.heads.forEach((head, i) => {
      if (i === this.sort.column) head.setAttribute("aria-sort", this.sort.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  }

  /** update shows the pools as they are now. */
  update(pools) {
    if (pools === this.pools) return;
    this.pools = pools;
    const there = new Set(pools.map((p) => p.id));
    for (const [id, row] of this.rows) {
      if (!there.has(id)) { row.element.remove(); this.rows.delete(id); }
    }
    for (const p of pools) this.draw(p);
    this.arrange();
  }

  draw(p) {
    let row = this.rows.get(p.id);
    if (!row) {
      const link = make("a", { href: "#pool=" + encodeURIComponent(p.id) }, p.id);
      const cells = columns.map((c, i) => {
        const cell = make(i === 0 ? "th" : "td", { className: c.number ? "number" : "" }, i === 0 ? link : "");
        if (i === 0) cell.scope = "row";
        cell.dataset.label = c.name;
        return cell;
      });
      row = { element: make("tr", {}, ...cells), cells, texts: columns.map(() => null) };
      row.texts[0] = p.id;
      this.rows.set(p.id, row);
    }
    row.pool = p;
    const name = groupOf(p.state) + (p.id === this.selected ? " selected" : "");
    if (row.element.className !== name) row.element.className = name;
    columns.forEach((c, i) => {
      const text = c.text(p);
      if (row.texts[i] === text) return;
      row.texts[i] = text;
      if (c.draw) c.draw(row.cells[i], p);
      else setText(row.cells[i], text);
    });
  }

  /** select marks the row of the pool that is shown in detail. */
  select(id) {
    this.selected = id;
    for (const [other, row] of this.rows) row.element.classList.toggle("selected", other === id);
  }

  arrange() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const unready = byId("unready").checked;
    const by = columns[this.sort.column].by;
    const rows = this.pools.map((p) => this.rows.get(p.id));
    rows.sort((a, b) => {
      const x = by(a.pool), y = by(b.pool);
      const n = x < y ? -1 : x > y ? 1 : 0;
      return (this.sort.up ? n : -n) || (a.pool.id < b.pool.id ? -1 : 1);
    });
    let count = 0, next = this.body.firstChild;
    for (const row of rows) {
      const p = row.pool;
      const all = [p.id, p.model_id, p.engine, p.state].join(" ").toLowerCase();
      const visible = !(unready && p.ready) && words.every((w) => all.includes(w));
      if (visible) count++;
      if (row.element.hidden === visible) row.element.hidden = !visible;
      if (row.element === next) next = next.nextSibling;
      else this.body.insertBefore(row.element, next);
    }
    setText(byId("shown"), count === this.pools.length ? "" : count + " of " + this.pools.length + " shown");
    show(byId("no-pools"), this.pools.length === 0);
  }
}
