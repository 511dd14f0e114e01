// Small pictures. They are fetched with the key in a header, which an <img> could not send, and drawn.

import { blob } from "./api.js";
import { el } from "./dom.js";

const MOST = 2000;
const bitmaps = new Map();

async function fetched(image) {
  try {
    return await createImageBitmap(await blob(`/api/picture/${image}`));
  } catch {
    return null;
  }
}

function draw(canvas, bitmap) {
  if (bitmap === null) return;
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.classList.remove("blank");
}

// A picture of an image that is known by its hash; `text` is read out in its place.
export function picture(image, text) {
  const canvas = el("canvas", { role: "img", "aria-label": text, title: text, class: "blank", width: 8, height: 8 });
  const known = bitmaps.get(image);
  if (known instanceof ImageBitmap) {
    draw(canvas, known);
    return canvas;
  }
  const coming = known ?? fetched(image);
  if (bitmaps.size >= MOST) bitmaps.clear();
  bitmaps.set(image, coming);
  coming.then((bitmap) => {
    if (bitmap === null) bitmaps.delete(image);
    else bitmaps.set(image, bitmap);
    draw(canvas, bitmap);
  });
  return canvas;
}
