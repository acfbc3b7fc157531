// Elements of the page, and how numbers are written. Texts become text nodes, never
// HTML: a name may hold anything.

const SVG = document.getElementById("drawing").namespaceURI;

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) element.append(child);
  }
  return element;
}

function el(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// Three digits that count, as "1.24", "0.0132", "1,230" or "1.2e-7".
function number(value) {
  if (value === null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e7 || (size > 0 && size < 1e-4)) return value.toExponential(1);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

function signed(value) {
  return (value > 0 ? "+" : "") + number(value);
}

function percent(share) {
  if (share === 0 || share === 1) return `${100 * share} %`;
  const value = 100 * share;
  return value < 0.01 ? "< 0.01 %" : `${Number(value.toPrecision(2))} %`;
}

function clipped(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

// A bar from the middle, to the left and hatched below zero; `most` fills its half. Where
// no value is below zero, it is from the left end, and `most` fills it.
function bar(value, most, positive) {
  const width = most > 0 ? Math.min(1, Math.abs(value) / most) * (positive ? 100 : 50) : 0;
  const side = value < 0 ? "right:50%" : positive ? "left:0" : "left:50%";
  const kind = value < 0 ? "minus" : "plus";
  return el("span", { class: "bar", "aria-hidden": "true" },
    el("i", { class: kind, style: `${side};width:${width}%` }));
}

function facts(pairs) {
  const shown = pairs.filter((pair) => pair);
  return el("dl", { class: "facts" },
    shown.map(([what, value]) => el("div", {}, el("dt", {}, what), el("dd", {}, value))));
}
