// The GPUs, with their memory by pool as stacked bars.
import { badge, byId, figure, healthGroup, make, setText, show, size } from "./dom.js";

const colours = 6;

/** parts splits a device's memory: by pool, other programs, the driver, free. */
export function parts(d) {
  const total = d.vram_total_bytes;
  if (!total) return [];
  const pools = new Map();
  let known = 0;
  for (const p of d.processes) {
    if (p.vram_used_bytes === undefined) continue;
    const name = p.pool_id ? p.pool_id : "";
    pools.set(name, (pools.get(name) || 0) + p.vram_used_bytes);
    known += p.vram_used_bytes;
  }
  const out = [];
  for (const id of [...pools.keys()].sort()) {
    if (id) out.push({ name: id, bytes: pools.get(id), kind: "pool" });
  }
  const others = (pools.get("") || 0) + Math.max(0, (d.vram_used_bytes || 0) - known);
  if (others) out.push({ name: "others", bytes: others, kind: "others" });
  if (d.vram_reserved_bytes) out.push({ name: "driver", bytes: d.vram_reserved_bytes, kind: "driver" });
  if (d.vram_free_bytes !== undefined) out.push({ name: "free", bytes: d.vram_free_bytes, kind: "free" });
  return out.map((p) => ({ ...p, share: p.bytes / total }));
}

let order = []; // the pools that use a GPU

// colourOf gives a pool the same colour on each GPU, and its neighbours others.
function colourOf(part) {
  return part.kind === "pool" ? "pool" + (order.indexOf(part.name) % colours) : part.kind;
}

function poolsOf(devices) {
  const all = devices.flatMap((d) => [d, ...(d.partitions || [])]).flatMap((d) => d.processes);
  return [...new Set(all.map((p) => p.pool_id).filter(Boolean))].sort();
}

function bar(d) {
  const list = parts(d);
  if (!list.length) return [make("p", { className: "dim" }, "Its memory is unknown.")];
  const line = make("div", { className: "stack", role: "img",
    "aria-label": "Memory of " + size(d.vram_total_bytes) + ": " + list.map((p) => p.name + " " + size(p.bytes)).join(", ") });
  const legend = make("ul", { className: "legend" });
  for (const p of list) {
    const segment = make("span", { className: colourOf(p) });
    segment.style.width = (p.share * 100).toFixed(3) + "%";
    line.append(segment);
    legend.append(make("li", {}, make("span", { className: "key " + colourOf(p), "aria-hidden": "true" }), p.name + " " + size(p.bytes)));
  }
  return [line, legend];
}

function card(d) {
  const title = "GPU " + d.index + (d.name ? " · " + d.name : "");
  const facts = [];
  if (d.temperature_celsius !== undefined) facts.push(d.temperature_celsius + " °C");
  if (d.utilization_percent !== undefined) facts.push(d.utilization_percent + " % busy");
  if (d.power_milliwatts !== undefined) facts.push(figure(d.power_milliwatts / 1000, " W"));
  if (d.vram_total_bytes) facts.push(size(d.vram_total_bytes));
  const out = make("article", { className: "card" },
    make("h3", {}, title, " ", badge(d.health, healthGroup(d.health))), make("p", {}, facts.join(" · ") || "No figures."));
  if (d.last_error) out.append(make("p", { className: "error" }, d.last_error), make("p", {}, d.hint || ""));
  const inside = d.partitions || [];
  if (!inside.length) out.append(...bar(d));
  for (const m of inside) out.append(make("h4", {}, "MIG " + (m.profile || m.uuid)), ...bar(m));
  const pools = d.pools.length ? "Pools: " + d.pools.join(", ") : "No pool names it.";
  out.append(make("p", { className: "dim" }, pools, make("br"), d.uuid || d.pci || ""));
  return out;
}

let shown = null;

/** drawGPUs shows the devices as they are now. */
export function drawGPUs(list) {
  if (list === shown) return;
  shown = list;
  show(byId("gpus"), list !== null);
  if (!list) return;
  order = poolsOf(list.devices);
  const driver = [];
  if (list.driver.version) driver.push("Driver " + list.driver.version + (list.driver.cuda ? ", CUDA " + list.driver.cuda : ""));
  if (list.driver.last_error) driver.push(list.driver.last_error);
  if (list.stale) driver.push("These facts are not refreshed: " + list.stale.last_error);
  if (!list.devices.length && !list.driver.last_error) driver.push("No GPU.");
  setText(byId("driver"), driver.join(". "));
  byId("gpu-list").replaceChildren(...list.devices.map(card));
}
