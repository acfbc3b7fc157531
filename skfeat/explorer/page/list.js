// The list of features: searched, filtered, sorted, and only what is in sight is drawn.

const ITEM = 26;
const filters = { query: "", layer: -1, density: 0, least: 0, order: "strength" };
const list = { items: [], current: -1, box: document.getElementById("list") };
let onFilter = () => {};

// Whether the filters let a node through, the search aside.
function passes(layer, j) {
  const { strength, statistics, largest, kind } = data.layers[layer];
  if (strength[j] < filters.least * largest) return false;
  // Only features have a density.
  return kind !== "features" || !statistics || statistics.density[j] >= filters.density;
}

const ORDERS = {
  strength: (layer, j) => -layer.strength[j] / (layer.largest || 1),
  density: (layer, j) => (layer.statistics ? -layer.statistics.density[j] : 0),
  "ablation effect": (layer, j) => (layer.effect ? -layer.effect[j] : 0),
  name: () => 0,
};

function buildFilters() {
  const layers = data.layers.map((layer) => el("option", { value: layer.index }, layer.title));
  const orders = Object.keys(ORDERS)
    .filter((name) => name !== "ablation effect" || data.layers.some((layer) => layer.effect))
    .map((name) => el("option", { value: name }, name));
  const range = (key, text, about, steps, spelled) => {
    const shown = el("span", {}, spelled(0));
    const input = el("input", { type: "range", min: 0, max: steps.length - 1, value: 0, "aria-label": text,
      oninput: () => {
        filters[key] = steps[input.value];
        shown.textContent = spelled(filters[key]);
        refilter(true);
      } });
    return [el("span", { title: about }, text, " ", shown), input];
  };
  const steps = [0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3];
  filled(document.getElementById("filters"), {}, [
    el("input", { type: "search", id: "search", placeholder: "Search names  ( / )", "aria-label": "Search features by name",
      oninput: (event) => { filters.query = event.target.value; refilter(false); } }),
    el("label", { for: "layer" }, "Layer"),
    el("select", { id: "layer", onchange: (event) => { filters.layer = Number(event.target.value); refilter(false); } },
      el("option", { value: -1 }, "all"), layers),
    el("label", { for: "order" }, "Order by"),
    el("select", { id: "order", onchange: (event) => { filters.order = event.target.value; refilter(false); } }, orders),
    range("density", "Density ≥", "share of the rows on which a feature fires", steps, percent),
    range("least", "Strength ≥", `${data.strength_name}, as a share of the layer's largest`, [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3], (share) => `${100 * share} %`),
  ]);
  list.box.addEventListener("scroll", drawList);
  new ResizeObserver(drawList).observe(list.box);
  list.box.addEventListener("keydown", moveInList);
  document.getElementById("search").addEventListener("keydown", moveInList);
  refilter(false);
}

function refilter(graphToo) {
  const query = filters.query.trim().toLowerCase();
  const items = [];
  for (const layer of data.layers) {
    if (filters.layer >= 0 && filters.layer !== layer.index) continue;
    for (let j = 0; j < layer.size; j++) {
      if (!passes(layer.index, j)) continue;
      // Pixels are many, and what is looked for are features.
      let rank = layer.kind === "inputs" && !query && filters.layer < 0 ? 1 : 0;
      if (query) {
        const name = nameOf(layer.index, j).toLowerCase();
        if (name === query) rank = 0;
        else if (name.startsWith(query)) rank = 1;
        else if (name.includes(query) || labelOf(layer.index, j).toLowerCase().includes(query)) rank = 2;
        else continue;
      }
      items.push({ layer: layer.index, node: j, rank, key: ORDERS[filters.order](layer, j) });
    }
  }
  items.sort((a, b) => a.rank - b.rank || a.key - b.key || a.layer - b.layer || a.node - b.node);
  list.items = items;
  list.current = query && items.length ? 0 : -1;
  list.box.scrollTop = 0;
  document.getElementById("count").textContent =
    `${items.length.toLocaleString("en")} of ${data.layers.reduce((n, layer) => n + layer.size, 0).toLocaleString("en")}`;
  drawList();
  if (graphToo) onFilter();
}

function drawList() {
  const { box, items } = list;
  const first = Math.max(0, Math.floor(box.scrollTop / ITEM) - 5);
  const last = Math.min(items.length, first + Math.ceil(box.clientHeight / ITEM) + 10);
  // Names of pairs recur; those of a network say the layer.
  const twice = data.flow === "product" && data.layers.length > 2;
  const rows = [el("div", { style: `height:${items.length * ITEM}px`, "aria-hidden": "true" })];
  for (let i = first; i < last; i++) {
    const { layer, node } = items[i];
    const share = data.layers[layer].strength[node] / (data.layers[layer].largest || 1);
    rows.push(el("div", { class: i === list.current ? "item current" : "item", role: "option", id: `item${i}`,
      "aria-selected": String(i === list.current), "aria-setsize": items.length, "aria-posinset": i + 1,
      style: `top:${i * ITEM}px`, onclick: () => { list.current = i; openCurrent(); } },
      el("span", {}, clipped(nameOf(layer, node), 22)),
      el("span", { class: "label" }, twice ? `${data.layers[layer].title} ${labelOf(layer, node)}` : labelOf(layer, node)),
      el("span", { class: "size" }, el("i", { style: `width:${100 * share}%` }))));
  }
  box.replaceChildren(...rows);
  if (list.current >= 0) box.setAttribute("aria-activedescendant", `item${list.current}`);
  else box.removeAttribute("aria-activedescendant");
}

function openCurrent() {
  const item = list.items[list.current];
  if (item) location.hash = linkTo(item.layer, item.node);
}

function moveInList(event) {
  const page = Math.max(1, Math.floor(list.box.clientHeight / ITEM) - 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
  if (event.key === "Enter") {
    openCurrent();
    event.preventDefault();
  } else if (steps[event.key]) {
    list.current = Math.min(list.items.length - 1, Math.max(0, list.current + steps[event.key]));
    const top = list.current * ITEM;
    const { box } = list;
    if (top < box.scrollTop) box.scrollTop = top;
    if (top + ITEM > box.scrollTop + box.clientHeight) box.scrollTop = top + ITEM - box.clientHeight;
    drawList();
    event.preventDefault();
  }
}
