// The description that the page was written with: texts, and typed arrays.

let data = null;

async function loadData() {
  const text = document.getElementById("data").textContent;
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const start = 4 + length;
  const kinds = { f4: Float32Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, i4: Int32Array };
  data = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)), (key, value) =>
    value && value.array ? new kinds[value.array](buffer, start + value.at, value.n) : value);
  data.layers.forEach((layer, i) => {
    layer.index = i;
    layer.size = layer.strength.length;
    layer.largest = layer.strength.reduce((a, b) => Math.max(a, b), 0);
  });
}

function nameOf(layer, j) {
  const names = data.layers[layer].names;
  return names.prefix === undefined ? names[j] : names.prefix + j;
}

function labelOf(layer, j) {
  const labels = data.layers[layer].labels;
  return labels ? labels[j] : "";
}

function linkTo(layer, j) {
  return `#/feature/${layer}/${j}`;
}

// The edges of a gap that lead to a node: [{ node, weight, strength }], strongest first.
function incoming(layer, j) {
  const gap = data.gaps[layer - 1];
  if (!gap) return [];
  const found = [];
  for (let e = gap.indptr[j]; e < gap.indptr[j + 1]; e++) found.push(edgeOf(gap, e, gap.indices[e]));
  return sorted(found);
}

function outgoing(layer, j) {
  const gap = data.gaps[layer];
  if (!gap) return [];
  if (!gap.leaving) gap.leaving = leavingEdges(gap, data.layers[layer].size);
  const { starts, edges, targets } = gap.leaving;
  const found = [];
  for (let i = starts[j]; i < starts[j + 1]; i++) found.push(edgeOf(gap, edges[i], targets[i]));
  return sorted(found);
}

function edgeOf(gap, e, node) {
  return { node, weight: gap.weights ? gap.weights[e] : null, strength: gap.strength[e] };
}

function sorted(edges) {
  return edges.sort((a, b) => b.strength - a.strength || Math.abs(b.weight) - Math.abs(a.weight));
}

// The edges of a gap by the node that they leave.
function leavingEdges(gap, size) {
  const starts = new Uint32Array(size + 1);
  for (const source of gap.indices) starts[source + 1]++;
  for (let i = 0; i < size; i++) starts[i + 1] += starts[i];
  const place = starts.slice();
  const edges = new Uint32Array(gap.indices.length);
  const targets = new Uint32Array(gap.indices.length);
  for (let to = 0; to + 1 < gap.indptr.length; to++) {
    for (let e = gap.indptr[to]; e < gap.indptr[to + 1]; e++) {
      const i = place[gap.indices[e]]++;
      edges[i] = e;
      targets[i] = to;
    }
  }
  return { starts, edges, targets };
}

// What a row makes of each node of a column: Map from node to { value, part }.
function rowNodes(row, layer) {
  const [nodes, values, parts] = row.values[layer];
  const found = new Map();
  nodes.forEach((node, i) => found.set(node, { value: values[i], part: parts[i] }));
  return found;
}

// What flows along each edge of a gap on a row: [{ from, to, value }].
function rowEdges(row, at, before, after) {
  if (row.edges[at]) {
    const [sources, targets, flows] = row.edges[at];
    return Array.from(flows, (value, i) => ({ from: sources[i], to: targets[i], value }));
  }
  const gap = data.gaps[at];
  const found = [];
  for (const [to, end] of after) {
    // A part is the value times the slope of the output in it.
    const slope = data.flow === "product" ? 1 : end.value ? end.part / end.value : 0;
    if (!slope) continue;
    for (let e = gap.indptr[to]; e < gap.indptr[to + 1]; e++) {
      const from = gap.indices[e];
      const source = before.get(from);
      const value = source ? gap.weights[e] * source.value * slope : 0;
      if (value) found.push({ from, to, value });
    }
  }
  return found;
}
