// Elements and texts. Whatever an engine, a user or a file wrote becomes a text node, and never HTML.

/** make returns an element with properties, and children that are elements or texts. */
export function make(tag, properties = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name === "role" || name === "for" || name === "scope") e.setAttribute(name, value);
    else e[name] = value;
  }
  e.append(...children.filter((c) => c !== null && c !== undefined).map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

/** byId returns an element of the page. */
export const byId = (id) => document.getElementById(id);

/** setText changes a text where it differs, so that nothing is drawn or read aloud again. */
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

/** show shows or hides an element. */
export function show(e, visible) {
  e.hidden = !visible;
}

const groups = {
  ready: "good", probing: "busy", starting: "busy", preparing: "busy", staging: "busy", waiting: "wait", draining: "wait",
  stopping: "wait", unhealthy: "bad", backoff: "bad", failed: "bad", refused: "bad", invalid: "bad", stopped: "off",
};
const signs = { good: "●", busy: "◐", wait: "◌", bad: "▲", off: "○" };

/** groupOf is the group of states that has a colour and a sign. */
export const groupOf = (state) => groups[state] || "off";

/** unsettled reports whether a state soon becomes another. */
export const unsettled = (state) => ["busy", "wait"].includes(groupOf(state)) || state === "backoff";

/** badge returns a state with its sign and colour. */
export function badge(word, group = groupOf(word)) {
  return make("span", { className: "badge " + group }, make("span", { "aria-hidden": "true" }, signs[group] + " "), word);
}

/** healthGroup is the group of a GPU's health. */
export const healthGroup = (health) => ({ healthy: "good", degraded: "wait", unknown: "off" })[health] || "bad";

/** size is a number of bytes for people. */
export function size(bytes) {
  if (bytes === undefined || bytes === null) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let n = bytes, i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (n >= 100 || i === 0 ? n.toFixed(0) : n.toFixed(1)) + " " + units[i];
}

/** figure is a number for people, a dash for one that is not known. */
export function figure(n, unit = "") {
  if (n === undefined || n === null) return "–";
  return (Math.abs(n) >= 100 || Number.isInteger(n) ? n.toFixed(0) : n.toFixed(1)) + unit;
}

/** clock is a moment of today, or with its date. */
export function clock(ms) {
  const t = new Date(ms);
  const time = t.toLocaleTimeString([], { hour12: false });
  return t.toDateString() === new Date().toDateString() ? time : t.toLocaleDateString() + " " + time;
}

/** since is how long ago a moment was. */
export function since(ms) {
  const s = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

/** slotsUsed counts the slots in use of the replicas that serve. */
export function slotsUsed(pool) {
  return pool.replicas.reduce((n, r) => n + (r.ready ? r.slots_total - r.slots_free : 0), 0);
}

/** meter returns a bar with its text. The texts around it say the same. */
export function meter(share) {
  const fill = make("span", { className: "fill" });
  fill.style.width = Math.max(0, Math.min(100, share * 100)) + "%";
  return make("span", { className: "meter", "aria-hidden": "true" }, fill);
}
