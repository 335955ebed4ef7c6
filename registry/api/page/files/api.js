// The API, as the page's caller: with the token of this tab, where there is one.

const key = "pool-managerd-token";
let kept = ""; // where the browser has no storage

/** token returns the token of this tab, empty for none. */
export function token() {
  try { return sessionStorage.getItem(key) || ""; } catch { return kept; }
}

/** setToken keeps a token until the tab is closed; an empty one forgets it. */
export function setToken(value) {
  kept = value;
  try {
    if (value) sessionStorage.setItem(key, value);
    else sessionStorage.removeItem(key);
  } catch { /* kept has it */ }
}

/** Refused is an answer with an error. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.message || "the server answered with status " + status);
    this.status = status;
    this.code = body.code || "";
    this.hint = body.hint || "";
  }
}

// The header is one that no form of another page can send (docs/security.md).
function headers(more) {
  const h = { "X-Requested-With": "pool-managerd", ...more };
  if (token()) h.Authorization = "Bearer " + token();
  return h;
}

async function send(path, options, more) {
  const r = await fetch(path, { cache: "no-store", credentials: "omit", redirect: "error", headers: headers(more), ...options });
  if (r.ok || r.status === 304) return r;
  let body = {};
  try { body = await r.json(); } catch { /* the status is all there is */ }
  throw new Refused(r.status, body);
}

const tags = new Map(); // by path: the tag and the answer that it is of

/** get returns the JSON of a path. A list that has not changed is the same object again. */
export async function get(path) {
  const had = tags.get(path);
  const r = await send(path, {}, had ? { "If-None-Match": had.tag } : {});
  if (r.status === 304) return had.value;
  const value = await r.json();
  const tag = r.headers.get("ETag");
  if (tag) tags.set(path, { tag, value });
  return value;
}

/** forget drops what was answered to another caller. */
export const forget = () => tags.clear();

/** text returns the text of a path. */
export async function text(path) {
  return (await send(path, {}, {})).text();
}

/** post asks for a change. The key makes a repeated request the same one. */
export async function post(path, body) {
  const bits = crypto.getRandomValues(new Uint8Array(16));
  const once = Array.from(bits, (b) => b.toString(16).padStart(2, "0")).join("");
  const r = await send(path, { method: "POST", body: JSON.stringify(body) },
    { "Content-Type": "application/json", "Idempotency-Key": once });
  return r.json();
}

/** path is the path of a pool. */
export const poolPath = (id, rest = "") => "/v1/pools/" + encodeURIComponent(id) + rest;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * follow reads events until signal ends, and connects again after the last one that it got. hear is
 * called with the kind and the data of each; note with true once connected, and false or an error.
 */
export async function follow(query, signal, hear, note) {
  let last = "", wait = 500;
  while (!signal.aborted) {
    try {
      const r = await send("/v1/events" + (last ? query.again : query.first), { signal }, last ? { "Last-Event-ID": last } : {});
      note(true);
      wait = 500;
      const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const event = parse(block);
          if (event.id) last = event.id;
          if (event.data) hear(event.kind, JSON.parse(event.data));
        }
      }
      note(false);
    } catch (e) {
      if (signal.aborted) return;
      note(e);
      if (e instanceof Refused && e.status === 400) last = ""; // an id that is not known: begin again
    }
    await pause(wait);
    wait = Math.min(wait * 2, 8000);
  }
}

function parse(block) {
  const event = { kind: "", data: "", id: "" };
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    if (at < 1) continue; // a comment
    const value = line.slice(at + 2);
    switch (line.slice(0, at)) {
      case "event": event.kind = value; break;
      case "id": event.id = value; break;
      case "data": event.data += value; break;
    }
  }
  return event;
}
