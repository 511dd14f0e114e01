// The camera, where the browser has one and the person allows it. Nothing of it is sent but the pictures that are taken.

import { byId } from "./dom.js";

let stream = null;

export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

export async function start() {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } }, audio: false });
  } catch (problem) {
    const why = { NotAllowedError: "the browser was not allowed to use it", NotFoundError: "none was found", NotReadableError: "another program uses it" };
    throw new Error(`No camera: ${why[problem.name] ?? problem.message}. Choose or drop images instead.`);
  }
  byId("camera-view").srcObject = stream;
  await byId("camera-view").play();
  byId("camera").hidden = false;
  byId("camera-start").hidden = true;
  byId("camera-ask").focus();
}

export function stop() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  byId("camera-view").srcObject = null;
  byId("camera").hidden = true;
  byId("camera-start").hidden = false;
  byId("camera-start").focus();
}

// What the camera sees now, as a file.
export async function taken() {
  const view = byId("camera-view");
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  if (blob === null) throw new Error("The camera gave no picture: try again.");
  return new File([blob], `camera ${new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".")}.jpg`, { type: "image/jpeg" });
}
