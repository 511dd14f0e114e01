// The classes that are taught, each with its images; each takes drops.

import { byId, counted, el, percent, redrawn } from "./dom.js";
import { zone } from "./drops.js";
import { picture } from "./pictures.js";

const FIRST = 9;
const open = new Set();

function thumbnail(label, image, act) {
  const text = `Forget the image ${image.file} of ${label}`;
  const remove = el("button", { type: "button", class: "remove", "aria-label": text, title: text, "data-key": `image ${image.image}`, click: () => act.forget(label, image) }, "×");
  return el("li", {}, picture(image.image, `${label}: ${image.file}`), remove);
}

function card(one, number, act) {
  const { class: label, images } = one;
  const shown = open.has(label) ? images : images.slice(0, FIRST);
  const more = images.length - FIRST;
  const files = el("input", { type: "file", accept: "image/*", multiple: true, id: `add-${number}`, "data-key": `add ${label}`, change: (event) => act.teach(label, [...event.target.files]) });
  const toggle = () => {
    if (!open.delete(label)) open.add(label);
    act.redraw();
  };
  const item = el(
    "li",
    { class: "class" },
    el(
      "div",
      { class: "title" },
      el("h3", {}, label, el("small", {}, counted(images.length, "image"))),
      el("div", { class: "file button" }, files, el("label", { for: `add-${number}` }, "Add", el("span", { class: "unseen" }, ` images to ${label}`))),
      el("button", { type: "button", class: "quiet", "data-key": `class ${label}`, click: () => act.forget(label, null) }, "Forget", el("span", { class: "unseen" }, ` the class ${label}`)),
    ),
    el("ul", { class: "thumbnails", "aria-label": `Images of ${label}` }, ...shown.map((image) => thumbnail(label, image, act))),
    more > 0 ? el("button", { type: "button", class: "quiet", "aria-expanded": String(open.has(label)), "data-key": `more ${label}`, click: toggle }, open.has(label) ? "Show fewer" : `Show ${more} more`) : null,
  );
  zone(item, ({ files: loose, folders }) => act.teach(label, [...loose, ...folders.flatMap((folder) => folder.files)]));
  return item;
}

// Draw the classes of a state; `act` has what buttons do: teach(label, files), forget(label, image or null), redraw().
export function drawClasses(state, act) {
  redrawn(byId("classes"), state.classes.map((one, number) => card(one, number, act)), byId("teach-title"));
  byId("class-names").replaceChildren(...state.classes.map((one) => el("option", { value: one.class })));
  byId("teach").classList.toggle("empty", !state.classes.length);
}

const share = (value) => (value === null ? "a share that is not known" : percent(value / 100));

// Say how sure answers are, as the file knows it.
export function drawSure(state) {
  byId("sure").hidden = state.sure === null;
  if (state.sure === null) return;
  const { probabilities: p, "none of these": none } = state.sure;
  const lines = [
    p.temperature === null
      ? `How likely a class is ${p.how}.`
      : `${p["recognised when left out"]} of ${p["left out"]} taught images are recognised without having been taught. Probabilities hold if the image shows one of the classes; they are fitted to ${p.how}.`,
    none["below a closeness of"] === null
      ? `"None of these" is never said: ${none.how}.`
      : `"None of these" is said below a closeness of ${none["below a closeness of"].toFixed(2)}. Expected: it refuses ${share(none["known images refused"])} of known images and lets ${share(none["unknown images let through"])} of unknown ones through (${none.how}).`,
    `Encoder ${state.encoder}, head ${state.head}.`,
  ];
  byId("sure-text").replaceChildren(...lines.map((line) => el("p", {}, line)));
}
