// What is said of the images that were asked about.

import { sent } from "./api.js";
import { byId, el, percent, redrawn } from "./dom.js";
import { picture } from "./pictures.js";

const SHOWN = 6;
let asked = []; // { number, file, answer }, the latest first
let numbers = 0;

const named = (answer) => answer.class ?? "None of these";

function likely(answer) {
  const best = answer.top[0].probability;
  if (answer.known === false) return `most like ${answer.top[0].class}`;
  if (best !== null) return `${percent(best)} likely`;
  return answer.top.length === 1 ? "the only class" : "";
}

function spoken(answer) {
  const near = answer.nearest.map((one) => one.class);
  const parts = [`${answer.file}: ${named(answer)}`, likely(answer), `closeness ${answer.closeness.toFixed(2)}`];
  if (near.length) parts.push(`nearest are images of ${[...new Set(near)].join(", ")}`);
  return parts.filter(Boolean).join(", ");
}

function bars(answer) {
  const rows = answer.top.map((guess) => {
    const fill = el("div", { class: "fill" });
    fill.style.width = `${100 * (guess.probability ?? 0)}%`;
    const share = guess.probability === null ? "" : percent(guess.probability);
    return el("li", {}, el("span", { class: "of" }, guess.class), el("div", { class: "bar", "aria-hidden": "true" }, fill), el("span", { class: "share" }, share));
  });
  const title = "How likely, if it is one of the classes";
  return el("div", {}, el("h4", {}, title), el("ul", { class: "bars", "aria-label": title }, ...rows));
}

const along = (value) => `${100 * Math.min(1, Math.max(0, value))}%`;

function gauge(answer) {
  const dot = el("i", { class: "dot" });
  dot.style.left = along(answer.closeness);
  const track = el("div", { class: "track", "aria-hidden": "true" }, dot);
  let text = `Closeness ${answer.closeness.toFixed(2)}`;
  if (answer.threshold !== null) {
    const mark = el("i", { class: "threshold" });
    mark.style.left = along(answer.threshold);
    track.append(mark);
    text += answer.known ? `; below ${answer.threshold.toFixed(2)} it is none of these` : `, and below ${answer.threshold.toFixed(2)} it is none of these`;
  } else {
    text += "; when it is none of these is not known yet";
  }
  return el("div", { class: "gauge" }, el("p", {}, text), track);
}

function near(answer) {
  const rows = answer.nearest.map((one) =>
    el("li", {}, picture(one.image, `${one.class}, ${one.file}`), el("span", { class: "of" }, one.class), el("span", { class: "soft" }, one.closeness.toFixed(2))),
  );
  return el("div", { class: "near" }, el("h4", {}, "Nearest taught images"), el("ul", {}, ...rows));
}

function correction(one, teach) {
  const { answer, file, number } = one;
  if (answer["taught as"] !== null) return el("p", { class: "soft" }, `This very image is taught as ${answer["taught as"]}.`);
  const id = `it-is-${number}`;
  const name = el("input", { id, type: "text", list: "class-names", maxlength: 200, autocomplete: "off", value: answer.class ?? "", "data-key": `name ${number}` });
  const submit = (event) => {
    event.preventDefault();
    if (name.value.trim()) teach(name.value.trim(), [file]);
    else name.focus();
  };
  return el("form", { class: "correct", "aria-label": `What ${answer.file} is`, submit }, el("label", { for: id }, "It is"), name, el("button", { type: "submit", "data-key": `keep ${number}` }, "Teach this image"));
}

function card(one, teach) {
  const { answer, number } = one;
  const id = `answer-${number}`;
  const how = likely(answer);
  const title = el("h3", { id, class: answer.known === false ? "none" : null }, named(answer), how ? el("small", {}, how) : null);
  const head = el("div", { class: "head" }, picture(answer.image, `The image asked about: ${answer.file}`), el("div", {}, el("p", { class: "kicker" }, answer.file), title, gauge(answer)));
  const unsure = answer.top[0].probability === null ? el("p", { class: "soft" }, "It is not known yet how likely that is: teach a second class, and a second image of some class.") : bars(answer);
  return el("li", {}, el("article", { "aria-labelledby": id }, head, unsure, near(answer), correction(one, teach)));
}

// Draw the answers; `teach(name, files)` teaches one of the images.
export function drawAnswers(teach) {
  redrawn(byId("answers"), asked.map((one) => card(one, teach)), byId("ask-title"));
  byId("answers-none").hidden = asked.length > 0;
}

// Ask about files; gives the server's reply.
export async function ask(files) {
  const reply = await sent("/api/predict", {}, files);
  const found = reply.answers.map((answer) => ({ number: (numbers += 1), file: files[answer.row], answer }));
  asked = [...found.reverse(), ...asked].slice(0, SHOWN);
  byId("said").textContent = found.map((one) => spoken(one.answer)).join(". ");
  return reply;
}

// Ask again what is shown, as another classifier may say something else of it.
export async function askAgain() {
  if (!asked.length) return null;
  const before = asked;
  const reply = await sent("/api/predict", {}, before.map((one) => one.file));
  if (reply.answers.length === before.length && asked === before) asked = before.map((one, row) => ({ ...one, answer: reply.answers[row] }));
  return reply;
}

export function forgetAnswers() {
  asked = [];
}
