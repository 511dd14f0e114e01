// Talking to the server. The key is the part of the address behind `#`: it is kept for this tab alone and taken off the address.

const KEY = "kinshot studio key";
const KEYLIKE = /^#[A-Za-z0-9_-]{43}$/;

export class Problem extends Error {
  constructor(message, status, elsewhere = null) {
    super(message);
    this.status = status;
    this.elsewhere = elsewhere; // images that are taught under another class: [name, class]
  }
}

export function takeKey() {
  if (!KEYLIKE.test(location.hash)) return false;
  sessionStorage.setItem(KEY, location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
  return true;
}

async function answer(path, options = {}) {
  const headers = { ...options.headers, "X-Kinshot-Token": sessionStorage.getItem(KEY) ?? "" };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem("The server does not answer. Is `fewshot studio` still running?", 0);
  }
  if (response.ok) return response;
  const said = await response.json().catch(() => ({})); // no text of ours: the number has to do
  throw new Problem(said.error ?? `The server answered with ${response.status}.`, response.status, said.elsewhere);
}

export async function state(revision) {
  const response = await answer(revision === null ? "/api/state" : `/api/state?revision=${revision}`);
  return response.status === 204 ? null : response.json();
}

export async function sent(path, words, images = null) {
  if (images === null) {
    const headers = { "Content-Type": "application/json" };
    return (await answer(path, { method: "POST", headers, body: JSON.stringify(words) })).json();
  }
  const form = new FormData();
  for (const [name, value] of Object.entries(words)) form.append(name, value);
  for (const image of images) form.append("images", image, image.name);
  return (await answer(path, { method: "POST", body: form })).json();
}

export const blob = async (path) => (await answer(path)).blob();
