// What changes a pool, each behind a question. The buttons are there for callers that may.
import { poolPath, post } from "./api.js";
import { byId, make, setText, show } from "./dom.js";

const seconds = { name: "deadline", label: "Deadline in seconds (empty: the pool's own)", type: "number", min: "0", max: "604800" };

const actions = {
  drain: {
    verb: "Drain", asks: "No new work is taken, and the engine is stopped once its leases are released, at the latest at the deadline.",
    fields: [seconds, { name: "restart", label: "Start it again afterwards", type: "checkbox" }],
    body: (f) => ({ ...deadline(f), until_restart: f.restart }),
  },
  resume: { verb: "Resume", asks: "A drained or stopped pool serves again.", fields: [], body: () => ({}) },
  reload: {
    verb: "Reload", asks: "The pool serves another model, or reads its files again. The former engine serves until the new one is ready, or as long as memory permits.",
    fields: [{ name: "model", label: "Model (empty: the one that it was asked for last)", type: "text" }, seconds,
      { name: "forget", label: "Go back to the model of the pool's file", type: "checkbox" }],
    body: (f) => (f.forget ? { ...deadline(f), forget: true } : { ...deadline(f), ...(f.model ? { new_model_ref: f.model } : {}) }),
  },
  reset: { verb: "Reset", asks: "Its failures are forgotten, its breaker is closed, and engines that wait are started now.", fields: [], body: () => ({}) },
};

const deadline = (f) => (f.deadline === "" ? {} : { deadline_ms: Math.round(Number(f.deadline) * 1000) });

/** buttons returns the buttons of a pool; done is called with the pool's new status. */
export function buttons(id, done) {
  return Object.keys(actions).map((name) =>
    make("button", { type: "button", onclick: () => ask(name, id, done) }, actions[name].verb + "…"));
}

function ask(name, id, done) {
  const { verb, asks, fields, body } = actions[name];
  const dialog = byId("action-dialog"), form = byId("action-form");
  setText(byId("action-title"), verb + " " + id + "?");
  setText(byId("action-text"), asks);
  setText(byId("action-do"), verb);
  show(byId("action-error"), false);
  const inputs = fields.map((f) => make("input", { id: "field-" + f.name, type: f.type, ...(f.min ? { min: f.min, max: f.max } : {}) }));
  byId("action-fields").replaceChildren(...fields.map((f, i) => make("p", {}, make("label", { for: inputs[i].id }, f.label), " ", inputs[i])));
  byId("action-cancel").onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    const values = {};
    fields.forEach((f, i) => { values[f.name] = f.type === "checkbox" ? inputs[i].checked : inputs[i].value.trim(); });
    byId("action-do").disabled = true;
    try {
      const pool = await post(poolPath(id, "/" + name), body(values));
      dialog.close();
      done(verb + " of " + id + " is accepted.", pool);
    } catch (e) {
      setText(byId("action-error"), (e.code ? e.code + ": " : "") + e.message + (e.hint ? ". " + e.hint : ""));
      show(byId("action-error"), true);
    } finally {
      byId("action-do").disabled = false;
    }
  };
  dialog.showModal();
}
