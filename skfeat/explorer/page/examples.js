// The rows that features are shown by: images, rows of a table, or passages of tokens.

function rowName(example) {
  const { rows, labels } = data.examples;
  const label = labels ? ` (${labels[example]})` : "";
  return `row ${rows[example]}${label}`;
}

function picture(example, scale) {
  const { width, height } = data.examples;
  return paint(example, el("canvas", { class: "picture", width, height, role: "img",
    "aria-label": rowName(example), style: `width:${width * scale}px;height:${height * scale}px` }));
}

function paint(example, canvas) {
  const { width, height, pixels } = data.examples;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const image = context.createImageData(width, height);
  const start = example * width * height;
  // Four bytes at once: alpha is the highest on every processor that browsers run on.
  const shades = new Uint32Array(image.data.buffer);
  for (let i = 0; i < width * height; i++) shades[i] = 0xff000000 | (pixels[start + i] * 0x010101);
  context.putImageData(image, 0, 0);
  return canvas;
}

// The place of the image that a node is recognised by, its strongest; -1 for none.
function strongestImage(layerIndex, j) {
  const layer = data.layers[layerIndex];
  const found = layer.statistics;
  if (data.examples.kind !== "image" || layer.kind !== "features" || !found || !found.rows) return -1;
  return found.rows[j * (found.rows.length / layer.size)];
}

// The same image as an address that SVG can show; made once, on one canvas for all.
const addresses = new Map();
let easel = null;

function imageAddress(example) {
  const { width, height } = data.examples;
  if (!easel) easel = el("canvas", { width, height });
  if (!addresses.has(example)) addresses.set(example, paint(example, easel).toDataURL());
  return addresses.get(example);
}

// What each pixel brings, from the colour of minus through nothing to that of plus.
function pixelMap(nodes, parts, text) {
  const { width, height } = data.examples;
  const scale = pictureScale(112);
  const canvas = el("canvas", { class: "map", width, height, role: "img", "aria-label": text,
    style: `width:${width * scale}px;height:${height * scale}px` });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  const most = parts.reduce((a, part) => Math.max(a, Math.abs(part)), 0) || 1;
  nodes.forEach((node, i) => {
    const color = style.getPropertyValue(parts[i] < 0 ? "--minus-rgb" : "--plus-rgb");
    context.fillStyle = `rgb(${color} / ${Math.sqrt(Math.abs(parts[i]) / most)})`;
    context.fillRect(node % width, Math.floor(node / width), 1, 1);
  });
  return el("figure", {}, canvas, text);
}

function pictureScale(size) {
  const { width, height } = data.examples;
  return Math.max(size / Math.max(width, height), 0.25);
}

// Examples with the value of a feature on each: { example, value }.
function shownExamples(items) {
  if (!items.length) return el("p", { class: "faint" }, "none");
  const { kind } = data.examples;
  if (kind === "image") {
    return el("div", { class: "examples" }, items.map(({ example, value }) =>
      el("figure", { title: rowName(example) }, picture(example, pictureScale(64)),
        number(value), data.examples.labels ? el("div", {}, data.examples.labels[example]) : null)));
  }
  if (kind === "table") return exampleTable(items);
  return el("div", {}, items.map(({ example, value }) =>
    passage(example, number(value))));
}

function exampleTable(items) {
  const { columns, values, labels, n_columns } = data.examples;
  const head = ["row", labels ? "label" : null, items[0].value === null ? null : "value", ...columns];
  const most = columns.map((_, c) => {
    let largest = 0;
    for (let i = c; i < values.length; i += columns.length) largest = Math.max(largest, Math.abs(values[i]));
    return largest;
  });
  const table = el("table", {},
    el("tr", {}, head.filter((text) => text !== null).map((text) => el("th", {}, text))),
    items.map(({ example, value }) => el("tr", {},
      el("td", { class: "number" }, String(data.examples.rows[example])),
      labels ? el("td", {}, labels[example]) : null,
      value === null ? null : el("td", { class: "number" }, el("b", {}, number(value))),
      columns.map((_, c) => {
        const cell = values[example * columns.length + c];
        const shade = most[c] ? 0.5 * Math.abs(cell) / most[c] : 0;
        const color = cell < 0 ? "--minus-rgb" : "--plus-rgb";
        return el("td", { class: "number", style: `background:rgb(var(${color}) / ${shade})` }, number(cell));
      }))));
  const note = columns.length < n_columns
    ? el("p", { class: "faint" }, `${columns.length} of ${n_columns.toLocaleString("en")} columns: those that matter most.`)
    : null;
  return el("div", { class: "scroll" }, table, note);
}

// One passage; each token is coloured by the activation of the feature it is shown for.
function passage(example, how) {
  const { vocabulary, stream, offset, length, focus, values, sequence, position } = data.examples;
  const first = data.examples.starts[example];
  const tokens = [];
  for (let i = 0; i < length[example]; i++) {
    const text = vocabulary[stream[offset[example] + i]];
    const share = values[first + i] / 255;
    tokens.push(el("span", { class: i === focus[example] ? "t focus" : "t",
      title: share ? `${Math.round(100 * share)} % of the feature's largest activation` : null,
      style: share ? `background:rgb(var(--plus-rgb) / ${0.12 + 0.5 * share})` : null }, text),
      el("wbr"));
  }
  return el("p", { class: "passage", title: `sequence ${sequence[example]}, position ${position[example]}` },
    el("span", { class: "how" }, how), tokens);
}

// One row on its own, as the page about it shows it.
function shownRow(example) {
  const { kind } = data.examples;
  if (kind === "image") return el("figure", {}, picture(example, pictureScale(112)), "the row");
  if (kind === "table") return exampleTable([{ example, value: null }]);
  return kind === "tokens" ? passage(example, "") : null;
}
