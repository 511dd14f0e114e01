// One thing after the other: ten drops at once are ten jobs that wait for their turn.

import { byId, el } from "./dom.js";

const SHOWN = 4;
const READING = 9000;
let fading = 0;
let waiting = 0;
let last = Promise.resolve();

// A line for whoever looks or listens.
export function say(text) {
  byId("status").textContent = text + (text && waiting > 1 ? ` (${waiting - 1} more waiting)` : "");
  clearTimeout(fading);
  if (!waiting) fading = setTimeout(() => say(""), READING);
}

// What went wrong; it stays until it is closed.
export function complain(text) {
  const place = byId("problems");
  const close = () => {
    line.remove();
    (place.querySelector("button") ?? byId("ask-title")).focus();
  };
  const line = el("p", { class: "problem" }, el("span", {}, text), el("button", { type: "button", click: close }, "Close"));
  place.append(line);
  while (place.children.length > SHOWN) place.firstChild.remove();
}

export function progress(share) {
  byId("progress").hidden = share === null;
  byId("progress").value = share ?? 0;
}

// Work that is done in its turn; what it throws is told and does not stop the others.
export function enqueue(title, work) {
  if (title) {
    waiting += 1;
    say(title);
  }
  last = last.then(async () => {
    if (title) say(title);
    let done = "";
    try {
      done = await work();
    } catch (problem) {
      complain(problem.message);
    }
    progress(null);
    if (title) {
      waiting -= 1;
      say(done);
    }
  });
  return last;
}
