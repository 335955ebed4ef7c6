// Events as they happen, the newest first.
import { badge, byId, clock, healthGroup, make } from "./dom.js";

const most = 200;
let waiting = [];

function line(kind, e) {
  if (kind === "gap") {
    return make("li", {}, (e.missed === null ? "Some" : e.missed) + " events are missing here: " + e.cause + ".");
  }
  const li = make("li", {}, make("time", { dateTime: new Date(e.at_ms).toISOString() }, clock(e.at_ms)), " ");
  if (e.health) li.append(badge(e.health, healthGroup(e.health)));
  else li.append(badge(e.state || kind, e.state ? undefined : "off"));
  li.append(" ");
  if (kind !== "ready" && (e.health || e.state)) li.append(make("b", {}, kind), " "); // the badge has the others
  if (e.pool_id) {
    li.append(make("a", { href: "#pool=" + encodeURIComponent(e.pool_id) }, e.pool_id + (e.replica_id ? "/" + e.replica_id : "")));
  } else if (e.device) {
    li.append(e.device);
  }
  li.append(": " + e.cause);
  if (e.last_error && !e.last_error.endsWith(e.cause)) li.append(make("span", { className: "error" }, " " + e.last_error));
  return li;
}

function draw() {
  const list = byId("event-list");
  const fresh = waiting.slice(-most).reverse();
  waiting = [];
  list.prepend(...fresh.map(([kind, e]) => line(kind, e)));
  while (list.childElementCount > most) list.lastElementChild.remove();
}

/** addEvent shows an event with the next picture. */
export function addEvent(kind, e) {
  if (waiting.push([kind, e]) === 1) setTimeout(draw, 20);
}

/** announce has events read aloud from now on; those of before were not news. */
export const announce = () => byId("event-list").setAttribute("aria-live", "polite");

/** clearEvents forgets them, for another caller. */
export function clearEvents() {
  waiting = [];
  byId("event-list").replaceChildren();
}
