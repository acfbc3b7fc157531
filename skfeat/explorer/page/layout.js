// Which nodes and edges a graph shows, and where.

// The `n` strongest of the nodes that a test lets through.
function strongest(size, strength, n, allowed) {
  const nodes = [];
  for (let j = 0; j < size; j++) if (strength(j) > 0 && allowed(j)) nodes.push(j);
  return nodes.sort((a, b) => strength(b) - strength(a) || a - b).slice(0, n);
}

// The strongest `most` edges between shown nodes.
function edgesBetween(edges, before, after, most) {
  const sources = new Set(before);
  const targets = new Set(after);
  const found = edges.filter((e) => sources.has(e.from) && targets.has(e.to) && e.value);
  found.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  return { shown: found.slice(0, most), among: found.length };
}

// Put each node near those it is connected to: the mean of their places, in both ways.
function untangle(columns, gaps) {
  const place = columns.map((nodes) => new Map(nodes.map((node, i) => [node, i / nodes.length])));
  const sweep = (at, edges, own, other) => {
    const sums = new Map();
    for (const edge of edges) {
      const there = place[at + (own === "to" ? -1 : 1)].get(edge[other]);
      const [sum, weight] = sums.get(edge[own]) || [0, 0];
      const size = Math.abs(edge.value);
      sums.set(edge[own], [sum + size * there, weight + size]);
    }
    const key = (node) => {
      const found = sums.get(node);
      return found ? found[0] / found[1] : place[at].get(node);
    };
    columns[at].sort((a, b) => key(a) - key(b));
    columns[at].forEach((node, i) => place[at].set(node, i / columns[at].length));
  };
  for (let round = 0; round < 4; round++) {
    for (let at = 1; at < columns.length; at++) sweep(at, gaps[at - 1].shown, "to", "from");
    for (let at = columns.length - 2; at >= 0; at--) sweep(at, gaps[at].shown, "from", "to");
  }
}

// The graph of the whole network: strengths, and the signs of weights.
function networkGraph({ n, by, allowed }) {
  const columns = data.layers.map((layer) =>
    strongest(layer.size, (j) => layer.strength[j], n, (j) => allowed(layer.index, j)));
  const gaps = data.gaps.map((gap, at) => {
    const shown = new Set(columns[at]);
    const edges = [];
    for (const to of columns[at + 1]) {
      for (let e = gap.indptr[to]; e < gap.indptr[to + 1]; e++) {
        const from = gap.indices[e];
        if (!shown.has(from)) continue;
        const weight = gap.weights ? gap.weights[e] : null;
        const size = by === "weight" && weight !== null ? Math.abs(weight) : gap.strength[e];
        edges.push({ from, to, value: weight < 0 ? -size : size, weight, strength: gap.strength[e] });
      }
    }
    return { ...edgesBetween(edges, columns[at], columns[at + 1], 3 * n), of: gap.n_edges };
  });
  untangle(columns, gaps);
  return { columns, gaps };
}

// The graph of one row: parts of its output, with their signs. Of products, nodes that
// are measured but not predicted are shown too.
function rowGraph(row, { n, allowed }) {
  const nodes = data.layers.map((_, at) => rowNodes(row, at));
  const size = ({ value, part }) =>
    data.flow === "product" ? Math.max(Math.abs(value), Math.abs(part)) : Math.abs(part);
  const columns = nodes.map((found, at) =>
    strongest(data.layers[at].size, (j) => (found.has(j) ? size(found.get(j)) : 0), n,
      (j) => allowed(at, j)));
  const gaps = data.gaps.map((gap, at) => {
    const edges = rowEdges(row, at, nodes[at], nodes[at + 1]);
    return { ...edgesBetween(edges, columns[at], columns[at + 1], 3 * n), of: edges.length };
  });
  untangle(columns, gaps);
  return { columns, gaps, nodes };
}
