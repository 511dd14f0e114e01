// What is dropped, pasted or chosen, as files; folders are walked through.

import { counted } from "./dom.js";
import { complain } from "./queue.js";

const HIDDEN = /^(\.|thumbs\.db$|desktop\.ini$)/i;

async function walked(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!part.length) break;
    found.push(...part);
  }
  const files = [];
  for (const one of found) if (!HIDDEN.test(one.name)) files.push(...(await walked(one)));
  return files;
}

// Loose files, and the files of each folder by its name.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { files: [...transfer.files], folders: [] };
  const files = [];
  const folders = [];
  for (const entry of entries) {
    const found = await walked(entry);
    if (entry.isDirectory) folders.push({ name: entry.name, files: found });
    else files.push(...found);
  }
  return { files, folders };
}

// Let an element take drops; what is dropped on one inside another is the inner one's.
export function zone(element, take) {
  element.dataset.zone = "";
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    dropped(event.dataTransfer).then(take).catch((problem) => complain(`What was dropped cannot be read: ${problem.message}.`));
  });
}

function mark(element) {
  for (const old of document.querySelectorAll(".over")) if (old !== element) old.classList.remove("over");
  element?.classList.add("over");
}

// Show where a drop would go; one that misses must not leave the page.
export function listenToDrops() {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(event.target.closest?.("[data-zone]"));
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? mark(null));
  addEventListener("drop", () => mark(null), true);
  addEventListener("drop", (event) => event.preventDefault());
}

// Files in parts that one request may hold, and what is to be said of those that no request may.
export function parts(files, limits) {
  const found = [];
  const refused = [];
  let bytes = 0;
  for (const file of files) {
    if (file.size > limits.file) {
      refused.push(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MB, more than ${Math.round(limits.file / 2 ** 20)} MB: scale it down`);
      continue;
    }
    const full = !found.length || found.at(-1).length >= Math.min(16, limits.files) || bytes + file.size > 0.9 * limits.request;
    if (full) {
      found.push([]);
      bytes = 0;
    }
    found.at(-1).push(file);
    bytes += file.size;
  }
  return { found, refused };
}

export const listed = (texts) => (texts.length > 6 ? [...texts.slice(0, 6), `and ${counted(texts.length - 6, "more file")}`] : texts).join("; ");
