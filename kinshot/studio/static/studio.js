// The page: what is done when, and what is shown of the server's state.

import { ask, askAgain, drawAnswers, forgetAnswers } from "./answers.js";
import { blob, sent, state as stateOf, takeKey } from "./api.js";
import * as camera from "./camera.js";
import { drawClasses, drawSure } from "./classes.js";
import { byId, counted } from "./dom.js";
import { dropped, listed, listenToDrops, parts, zone } from "./drops.js";
import { complain, enqueue, progress, say } from "./queue.js";

const LOOK_EVERY = 2000;
let now = null; // the server's state
let kept = []; // images that wait for the name of their class
let silent = false; // whether it was told that the server is gone

// -- what is shown

function shown(state) {
  const before = now;
  now = state;
  const classes = counted(state.classes.length, "class", "classes");
  byId("file").textContent = state.exists ? `${state.file} · ${classes}, ${counted(state.images, "image")}` : `${state.file} · not there yet: teach a first class`;
  document.title = `${state.file} – kinshot studio`;
  for (const [id, text] of [["undo", "Undo"], ["redo", "Redo"]]) {
    byId(id).setAttribute("aria-disabled", String(!state[id])); // a disabled one would lose the focus
    byId(id).title = state[id] ? `${text}: ${state[id]}` : `Nothing to ${text.toLowerCase()}`;
    byId(id).setAttribute("aria-label", byId(id).title);
  }
  byId("download").disabled = !state.exists;
  drawClasses(state, act);
  drawSure(state);
  if (state.problem && state.problem !== before?.problem) complain(state.problem);
  if (before !== null && before.revision !== state.revision) again();
}

function again() {
  if (!now.exists) {
    forgetAnswers();
    drawAnswers(teach);
    return;
  }
  enqueue("", async () => {
    if (await askAgain()) drawAnswers(teach);
  });
}

async function look() {
  try {
    const state = await stateOf(now?.revision ?? null);
    silent = false;
    if (state === null) return;
    const others = now !== null && state.elsewhere > now.elsewhere;
    shown(state);
    if (others) say(`${state.file} was changed elsewhere: ${counted(state.classes.length, "class", "classes")} now, ${counted(state.images, "image")}.`);
  } catch (problem) {
    if (!silent) complain(problem.message);
    silent = true;
  }
}

// -- what is done

// Send images in parts that one request may hold; `send` is given each part.
async function inParts(files, send) {
  if (now === null) await look(); // images may come before the first answer of the server
  if (now === null) throw new Error("The page has not seen the file yet: open the link that the terminal shows.");
  const { found, refused } = parts(files, now.limits);
  const replies = [];
  for (const [row, part] of found.entries()) {
    if (found.length > 1) progress(row / found.length);
    try {
      replies.push(await send(part));
    } catch (problem) {
      if (problem.status !== 422) throw problem;
      refused.push(problem.message);
    }
  }
  refused.push(...replies.flatMap((reply) => reply.refused));
  if (refused.length) complain(`Left out: ${listed(refused)}.`);
  return replies;
}

// Whether images that are taught under another class are to be moved.
function moved(label, elsewhere) {
  const names = elsewhere.map(([name, other]) => `${name} is taught as ${other}`);
  byId("move-text").textContent = `${listed(names)}. An image is of one class. Move ${elsewhere.length === 1 ? "it" : "them"} to ${label}?`;
  byId("move").returnValue = "";
  byId("move").showModal();
  return new Promise((done) => byId("move").addEventListener("close", () => done(byId("move").returnValue === "move"), { once: true }));
}

function teach(label, files) {
  if (!files.length) return;
  enqueue(`Teaching ${label}…`, async () => {
    const words = { label, drop: crypto.randomUUID() };
    const replies = await inParts(files, async (part) => {
      try {
        return await sent("/api/teach", words, part);
      } catch (problem) {
        if (!problem.elsewhere || !(await moved(label, problem.elsewhere))) throw problem;
        return sent("/api/teach", { ...words, move: "1" }, part);
      }
    });
    if (!replies.length) return "Nothing was taught.";
    shown(replies.at(-1).state);
    drawAnswers(teach);
    const added = replies.reduce((sum, reply) => sum + reply.added, 0);
    const notes = replies.flatMap((reply) => reply.notes);
    return `${replies[0].class}: ${counted(added, "image")} added.${notes.length ? ` ${listed(notes)}.` : ""}`;
  });
}

function query(files) {
  if (!files.length) return;
  enqueue(`Looking at ${counted(files.length, "image")}…`, async () => {
    const replies = await inParts(files, ask);
    if (!replies.length) return "";
    shown(replies.at(-1).state);
    drawAnswers(teach);
    return `${counted(replies.reduce((sum, reply) => sum + reply.answers.length, 0), "answer")}.`;
  });
}

function forget(label, image) {
  enqueue(`Forgetting ${image ? image.file : label}…`, async () => {
    const reply = await sent("/api/forget", image ? { class: label, image: image.image } : { class: label });
    shown(reply.state);
    return `${image ? `${image.file} of ${label}` : label} is forgotten; Undo brings it back.`;
  });
}

function step(again) {
  enqueue(again ? "Doing it again…" : "Undoing…", async () => {
    try {
      const reply = await sent("/api/undo", again ? { again: "1" } : {});
      shown(reply.state);
      return `${again ? "Done again" : "Undone"}: ${reply.step}.${reply.notes.length ? ` ${listed(reply.notes)}.` : ""}`;
    } catch (problem) {
      await look();
      throw problem;
    }
  });
}

function download() {
  enqueue("Fetching the file…", async () => {
    const address = URL.createObjectURL(await blob("/api/model"));
    const link = document.createElement("a");
    link.href = address;
    link.download = now.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    return `${now.file} is downloaded.`;
  });
}

const act = { teach, forget, redraw: () => drawClasses(now, act) };

// -- images that wait for a name

function hold(files) {
  kept = [...kept, ...files];
  byId("teach-waiting").hidden = byId("teach-clear").hidden = !kept.length;
  byId("teach-waiting").textContent = kept.length ? `${counted(kept.length, "image waits", "images wait")} for the name of a class.` : "";
}

function offered({ files, folders }) {
  for (const folder of folders) teach(folder.name, folder.files);
  if (!files.length) return;
  hold(files);
  if (byId("teach-name").value.trim()) submitted();
  else byId("teach-name").focus();
}

function submitted() {
  const name = byId("teach-name").value.trim();
  if (!name) {
    say("Say what the class is called first.");
    byId("teach-name").focus();
    return;
  }
  if (!kept.length) {
    say(`Choose or drop images of ${name}.`);
    byId("teach-files").focus();
    return;
  }
  teach(name, kept);
  kept = [];
  hold([]);
  byId("teach-name").value = "";
}

// -- what the person does

const chosen = (id, take) =>
  byId(id).addEventListener("change", (event) => {
    take([...event.target.files]);
    event.target.value = "";
  });

function typing(target) {
  return target.matches?.("input[type=text]") ?? false;
}

function listen() {
  listenToDrops();
  zone(byId("ask"), ({ files, folders }) => query([...files, ...folders.flatMap((folder) => folder.files)]));
  zone(byId("teach"), offered);
  chosen("ask-files", query);
  chosen("teach-files", (files) => offered({ files, folders: [] }));
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    submitted();
  });
  byId("teach-clear").addEventListener("click", () => {
    kept = [];
    hold([]);
    byId("teach-name").focus();
  });
  byId("undo").addEventListener("click", () => now?.undo && step(false));
  byId("redo").addEventListener("click", () => now?.redo && step(true));
  byId("download").addEventListener("click", download);
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) dropped(event.clipboardData).then(({ files }) => query(files));
  });
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    const back = key === "z" && !event.shiftKey;
    if (now?.[back ? "undo" : "redo"]) step(!back);
  });
  addEventListener("hashchange", () => takeKey() && look());
}

function listenToCamera() {
  const told = (work) => () => work().catch((problem) => complain(problem.message));
  byId("camera-start").hidden = !camera.hasCamera();
  byId("camera-start").addEventListener("click", told(camera.start));
  byId("camera-stop").addEventListener("click", camera.stop);
  byId("camera-ask").addEventListener("click", told(async () => query([await camera.taken()])));
  byId("camera-teach").addEventListener("click", told(async () => hold([await camera.taken()])));
}

takeKey();
listen();
listenToCamera();
await look();
const lookIfSeen = () => document.visibilityState === "visible" && look();
setInterval(lookIfSeen, LOOK_EVERY);
addEventListener("visibilitychange", lookIfSeen);
