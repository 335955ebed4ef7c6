// The page: it reads the lists, follows the events, and reads the lists again after each of them.
import { follow, forget, get, poolPath, Refused, setToken, token } from "./api.js";
import { Detail } from "./detail.js";
import { byId, setText, show, slotsUsed, unsettled } from "./dom.js";
import { addEvent, announce, clearEvents } from "./events.js";
import { drawGPUs } from "./gpus.js";
import { PoolTable } from "./pools.js";

const settled = 5000, soon = 1000, afterEvent = 60; // milliseconds until the lists are read again

const table = new PoolTable();
const detail = new Detail((words) => { notice(words, false); refresh(); });
let access = null, pools = [], streams = null, timer = 0, reading = false, again = false;

function notice(words, bad) {
  const box = byId("notice");
  box.className = "note" + (bad ? " bad" : "");
  setText(box, words);
  show(box, words !== "");
}

const failed = (e) => notice((e.code ? e.code + ": " : "") + e.message + (e.hint ? ". " + e.hint : ""), true);

/** begin finds out what the caller may, and then shows it. */
async function begin() {
  stop();
  try {
    access = await get("/v1/access");
  } catch (e) {
    connected(false);
    if (e instanceof Refused && e.status === 401) return askToken(e);
    if (e instanceof Refused) return failed(e);
    timer = setTimeout(begin, soon);
    return;
  }
  notice("", false);
  setText(byId("identity"), "as " + access.identity + ", " + ({ read: "read only", details: "read with details" }[access.may] || "may change pools"));
  get("/v1/version").then((v) => setText(byId("version"), v.version), failed);
  streams = new AbortController();
  for (const id of access.pools || [""]) {
    const only = id ? "pool=" + encodeURIComponent(id) : "";
    follow({ first: "?replay=true" + (only && "&" + only), again: only && "?" + only }, streams.signal, hear, noted);
  }
  setTimeout(announce, 2000);
  await refresh();
}

function stop() {
  clearTimeout(timer);
  if (streams) streams.abort();
  streams = null;
  access = null;
}

function hear(kind, event) {
  addEvent(kind, event);
  schedule(afterEvent);
}

function noted(state) {
  if (state === true) return connected(true);
  connected(false);
  if (state instanceof Refused && state.status === 401) askToken(state);
}

function connected(is) {
  const at = byId("connection");
  setText(at, is ? "● Live" : "▲ Not connected");
  at.className = is ? "good" : "bad";
}

let due = Infinity;

function schedule(wait) {
  const at = performance.now() + wait;
  if (at >= due) return;
  due = at;
  clearTimeout(timer);
  timer = setTimeout(refresh, wait);
}

/** refresh reads the lists and shows them. Only one runs at a time. */
async function refresh() {
  if (!access) return;
  if (reading) { again = true; return; }
  reading = true;
  due = Infinity;
  clearTimeout(timer);
  try {
    await read();
  } catch (e) {
    connected(false);
    if (e instanceof Refused && e.status === 401) askToken(e);
    else if (e instanceof Refused) failed(e);
  } finally {
    reading = false;
  }
  if (again) { again = false; return refresh(); }
  if (!document.hidden) schedule(pools.some((p) => unsettled(p.state)) ? soon : settled);
}

async function read() {
  let list, devices = null;
  if (access.pools) {
    const got = await Promise.allSettled(access.pools.map((id) => get(poolPath(id))));
    list = { pools: got.filter((r) => r.status === "fulfilled").map((r) => r.value), problems: [] };
  } else {
    [list, devices] = await Promise.all([get("/v1/pools"), get("/v1/devices")]);
  }
  if (!access) return;
  pools = list.pools;
  const ready = pools.filter((p) => p.ready).length;
  const used = pools.reduce((n, p) => n + slotsUsed(p), 0), total = pools.reduce((n, p) => n + p.slots_total, 0);
  setText(byId("summary"), ready + " of " + pools.length + " pools ready · " + used + " of " + total + " slots in use");
  document.title = (ready < pools.length ? "▲ " : "") + ready + "/" + pools.length + " ready · pool-managerd";
  show(byId("problems"), list.problems.length > 0);
  byId("problem-list").replaceChildren(...list.problems.map((p) => {
    const li = document.createElement("li");
    li.textContent = p.file + ": " + p.error + (p.hint ? ". " + p.hint : "");
    return li;
  }));
  table.update(pools);
  drawGPUs(devices);
  detail.update(pools.find((p) => p.id === detail.id), access);
}

function askToken(e) {
  stop();
  const dialog = byId("token-dialog");
  if (e && e.code === "BAD_TOKEN") setText(byId("token-text"), "This token is wrong. It is kept in this tab until the tab is closed, and nowhere else.");
  byId("token").value = "";
  show(byId("token-forget"), token() !== "");
  if (!dialog.open) dialog.showModal();
}

function useToken(value) {
  setToken(value);
  forget();
  clearEvents();
  table.update([]);
  drawGPUs(null);
  setText(byId("identity"), "");
  byId("token-dialog").close();
  begin();
}

function openDetail() {
  const m = /^#pool=(.+)$/.exec(location.hash);
  let id = "";
  try { id = m ? decodeURIComponent(m[1]) : ""; } catch { /* no such pool */ }
  if (id === detail.id) return;
  detail.open(id);
  table.select(id);
  if (access) detail.update(pools.find((p) => p.id === id), access);
}

byId("token-button").addEventListener("click", () => { const a = access; askToken(null); if (a) resumeOnCancel(); });
byId("token-form").addEventListener("submit", (e) => { e.preventDefault(); useToken(byId("token").value.trim()); });
byId("token-forget").addEventListener("click", () => useToken(""));
function resumeOnCancel() {
  byId("token-dialog").addEventListener("cancel", () => begin(), { once: true });
}
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
addEventListener("hashchange", openDetail);
addEventListener("keydown", (e) => {
  if (e.key === "Escape" && detail.id && !document.querySelector("dialog[open]")) location.hash = "#";
});

openDetail();
begin();
