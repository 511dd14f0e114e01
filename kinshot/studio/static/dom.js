// Elements without any text that could be taken for markup.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") made.addEventListener(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export const percent = (share) => `${share > 0.995 && share < 1 ? ">99" : share > 0 && share < 0.005 ? "<1" : Math.round(100 * share)} %`;

// Redraw a part of the page, and leave the focus on what it was on, or on what has taken its place.
export function redrawn(parent, children, otherwise) {
  const keys = () => [...parent.querySelectorAll("[data-key]")];
  const before = keys();
  const at = before.findIndex((one) => one === document.activeElement);
  const key = at < 0 ? null : before[at].dataset.key;
  parent.replaceChildren(...children);
  if (key === null) return;
  const after = keys();
  const kind = key.split(" ")[0];
  const same = after.find((one) => one.dataset.key === key);
  const place = after.slice(0, at + 1).reverse().find((one) => one.dataset.key.startsWith(`${kind} `));
  (same ?? place ?? otherwise).focus();
}
