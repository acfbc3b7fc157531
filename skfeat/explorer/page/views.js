// What the main part shows: the network, one row, or one feature.

const view = { n: 20, by: "strength" };

function graphTools(withBy, redraw) {
  const shown = el("span", {}, String(view.n));
  const slider = el("input", { type: "range", min: 5, max: 60, step: 5, value: view.n, "aria-label": "nodes of each layer",
    oninput: () => { view.n = Number(slider.value); shown.textContent = view.n; redraw(); } });
  const select = el("select", { "aria-label": "edges by", onchange: () => { view.by = select.value; redraw(); } },
    el("option", { value: "strength" }, data.strength_name), el("option", { value: "weight" }, "weight"));
  select.value = view.by;
  return el("div", { class: "tools" },
    el("label", {}, "Nodes of each layer", slider, shown),
    withBy ? el("label", {}, "Edges by", select) : null,
    el("span", { class: "legend" }, el("i"), "positive", el("i", { class: "m" }), "negative"));
}

function coverage(graph) {
  const parts = graph.gaps.filter(({ of }) => of).map(({ shown, of }) => `${shown.length.toLocaleString("en")} of ${of.toLocaleString("en")}`);
  return `Edges shown: ${parts.join(", ")}.`;
}

// A graph that is drawn anew when its tools, the filters or the width change.
function graphPart(make, withBy) {
  const holder = el("div", { class: "scroll" });
  const note = el("p", { class: "faint" });
  let width = 0;
  const redraw = () => {
    if (!width) return;
    const graph = make();
    holder.replaceChildren(graphElement(graph, width));
    note.textContent = coverage(graph);
  };
  onFilter = redraw;
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) { width = now; redraw(); }
  }).observe(holder);
  return [graphTools(withBy, redraw), holder, note];
}

function networkView() {
  const sizes = data.layers.map((layer) => `${layer.size.toLocaleString("en")} ${layer.title}`);
  return [
    el("h2", {}, "The network"),
    el("p", { class: "faint" }, `${sizes.join(" → ")}. Boxes and edges by ${data.strength_name}, the strongest first.`),
    graphPart(() => networkGraph({ n: view.n, by: view.by, allowed: passes }), true),
    data.notes.map((note) => el("p", { class: "faint" }, note)),
    el("p", { class: "faint" }, el("kbd", {}, "/"), " search, ", el("kbd", {}, "arrows"), " move, ",
      el("kbd", {}, "Enter"), " open, ", el("kbd", {}, "Esc"), " back to the network."),
  ];
}

function rowView(i) {
  const row = data.rows[i];
  return [
    el("h2", {}, nameOfRow(row, i)),
    el("div", { class: "side" }, el("div", { class: "maps" }, row.example < 0 ? null : shownRow(row.example), rowMap(row)), facts(row.facts)),
    el("p", { class: "faint" }, `Numbers in the boxes: ${data.part_name}.`),
    graphPart(() => rowGraph(row, { n: view.n, allowed: passes }), false),
  ];
}

function nameOfRow(row, i) {
  const { kind } = data.examples;
  if (kind === "none") return `row ${data.examples.rows[row.example]}`;
  return kind === "tokens" ? `${i + 1}: ${row.facts[0][1]}` : rowName(row.example);
}

// The parts of the inputs of a row, if they are the pixels of an image.
function rowMap(row) {
  if (data.examples.kind !== "image" || data.layers[0].kind !== "inputs") return null;
  const [nodes, , parts] = row.values[0];
  return pixelMap(nodes, parts, `${data.part_name} of each pixel`);
}

// The inputs that a feature is computed from, if they are the pixels of an image.
function inputMap(layerIndex, j) {
  if (layerIndex !== 1 || data.examples.kind !== "image" || data.layers[0].kind !== "inputs") return null;
  const edges = incoming(layerIndex, j);
  if (!edges.length) return null;
  return el("section", { class: "map" }, el("h3", {}, "Where in the image"),
    pixelMap(edges.map((e) => e.node), edges.map((e) => (e.weight < 0 ? -e.strength : e.strength)), data.strength_name));
}

function featureView(layerIndex, j) {
  const layer = data.layers[layerIndex];
  const found = layer.statistics;
  const isFeature = layer.kind === "features";
  const label = labelOf(layerIndex, j);
  return [
    el("h2", {}, nameOf(layerIndex, j), label ? el("span", { class: "faint" }, `  ${label}`) : null),
    el("p", { class: "faint" }, `In ${layer.title}`),
    facts([
      found && isFeature && ["density", percent(found.density[j])],
      found && ["mean where it is not zero", number(found.mean[j])],
      found && ["range", `${number(found.low[j])} to ${number(found.high[j])}`],
      [data.strength_name, number(layer.strength[j])],
      layer.effect && [data.effect_name, number(layer.effect[j])],
      layer.r2 && ["R2 of the formula", number(layer.r2[j])],
      layer.flips && ["predictions that leaving it out changes", percent(layer.flips[j])],
    ]),
    exampleParts(layer, j),
    layer.formulas && layer.formulas[j] ? [el("h3", {}, "Formula"), el("code", {}, layer.formulas[j])] : null,
    layer.logics && layer.logics[j] ? [el("h3", {}, "Logic"), el("code", {}, layer.logics[j])] : null,
    el("div", { class: "side" },
      neighbours("Computed from", incoming(layerIndex, j), layerIndex - 1),
      inputMap(layerIndex, j),
      neighbours("Leads to", outgoing(layerIndex, j), layerIndex + 1)),
    isFeature && !outgoing(layerIndex, j).length && data.layers[layerIndex + 1]
      ? el("p", { class: "faint" }, "Nothing reads it: no weight or contribution leads from it.") : null,
    el("div", { class: "side" },
      found ? el("section", {}, el("h3", {}, isFeature ? "Activations where it fires" : "Values"), histogram(found, j)) : null,
      layer.effects ? barTable("Mean change of each output without it", outputNames(), layer.effects, j, signed) : null,
      found && found.classes ? barTable("Rows on which it fires, by label", data.examples.classes, found.classes, j, number) : null),
  ];
}

function outputNames() {
  const last = data.layers.length - 1;
  return Array.from({ length: data.layers[last].size }, (_, k) => nameOf(last, k));
}

function smallPicture(layer, j) {
  const example = strongestImage(layer, j);
  return example < 0 ? null : picture(example, pictureScale(26));
}

const FEW = 15;

function neighbours(title, edges, layer) {
  if (!data.layers[layer] || !edges.length) return null;
  const withWeights = edges[0].weight !== null;
  const most = edges.reduce((a, e) => Math.max(a, withWeights ? Math.abs(e.weight) : e.strength), 0);
  const withImages = data.examples.kind === "image" && data.layers[layer].kind === "features";
  const strongestFlow = edges.reduce((a, e) => Math.max(a, e.strength), 0);
  const line = (edge) => el("tr", {},
    withImages ? el("td", {}, smallPicture(layer, edge.node)) : null,
    el("td", {}, el("a", { href: linkTo(layer, edge.node) }, clipped(nameOf(layer, edge.node), 28))),
    data.layers[layer].labels ? el("td", { class: "label" }, labelOf(layer, edge.node)) : null,
    withWeights ? [el("td", { class: "number" }, signed(edge.weight)), el("td", {}, bar(edge.weight, most))] : null,
    el("td", { class: "number" }, number(edge.strength)),
    withWeights ? null : el("td", {}, bar(edge.strength, strongestFlow, true)));
  const body = el("tbody", {}, edges.slice(0, FEW).map(line));
  const more = edges.length > FEW
    ? el("button", { onclick: (event) => { body.append(...edges.slice(FEW).map(line)); event.target.remove(); } },
      `show all ${edges.length.toLocaleString("en")}`) : null;
  return el("section", {}, el("h3", {}, `${title} (${edges.length.toLocaleString("en")})`),
    el("table", {}, el("thead", {}, el("tr", {}, withImages ? el("th") : null, el("th", {}, data.layers[layer].title),
      data.layers[layer].labels ? el("th", {}, "") : null,
      withWeights ? [el("th", { class: "number" }, "weight"), el("th")] : null,
      el("th", { class: "number" }, data.strength_name))), body), more);
}

function exampleParts(layer, j) {
  const found = layer.statistics;
  if (!found || !found.rows || data.examples.kind === "none") return null;
  const width = found.rows.length / layer.size;
  const items = [];
  for (let i = j * width; i < (j + 1) * width; i++) {
    items.push(found.rows[i] < 0 ? null : { example: found.rows[i], value: found.values[i] });
  }
  const top = items.slice(0, found.n_top).filter((item) => item);
  const levels = items.slice(found.n_top).filter((item) => item);
  const what = data.examples.kind === "tokens" ? "passages" : "rows";
  return [el("h3", {}, `Strongest ${what}`), shownExamples(top),
    levels.length ? [el("h3", {}, `Drawn ${what}, from its strongest level to its weakest`), shownExamples(levels)] : null];
}

function histogram(found, j) {
  const bins = found.histogram.length / found.density.length;
  const counts = found.histogram.slice(j * bins, (j + 1) * bins);
  const most = counts.reduce((a, b) => Math.max(a, b), 0);
  if (!most) return el("p", { class: "faint" }, "never");
  const [width, height] = [320, 110];
  const step = width / bins;
  const low = found.low[j];
  const size = (found.high[j] - low) / bins;
  return draw("svg", { width, height: height + 20, role: "img", "aria-label": `histogram, ${number(low)} to ${number(found.high[j])}` },
    Array.from(counts, (count, i) => draw("rect", { class: "column", x: i * step + 1, width: step - 2,
      y: height - (height - 14) * count / most, height: (height - 14) * count / most },
      draw("title", {}, `${number(low + i * size)} to ${number(low + (i + 1) * size)}: ${count.toLocaleString("en")} rows`))),
    draw("line", { class: "axis", x1: 0, x2: width, y1: height, y2: height }),
    draw("text", { x: 0, y: height + 14 }, number(low)),
    draw("text", { x: width, y: height + 14, "text-anchor": "end" }, number(found.high[j])),
    draw("text", { x: 0, y: 9 }, `most: ${most.toLocaleString("en")} rows`));
}

function barTable(title, names, values, j, spelled) {
  const own = values.slice(j * names.length, (j + 1) * names.length);
  const most = own.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return el("section", {}, el("h3", {}, title), el("table", {}, names.map((name, k) => el("tr", {},
    el("td", {}, clipped(name, 24)), el("td", { class: "number" }, spelled(own[k])), el("td", {}, bar(own[k], most, !own.some((x) => x < 0)))))));
}
