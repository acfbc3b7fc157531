// A graph as SVG: boxes that are links, in columns, and curves between them.

const BOX = { width: 112, pictured: 144, labelled: 190, least: 70, valued: 104, top: 24, apart: 5 };

function graphElement(graph, available) {
  const { columns, gaps, nodes } = graph;
  const boxHeight = data.examples.kind === "image" ? 28 : 20;
  const step = boxHeight + BOX.apart;
  const longest = Math.max(...columns.map((column) => column.length), 1);
  const height = BOX.top + longest * step + 4;
  const isLong = (node, at) => nameOf(at, node).length > 10;
  const long = columns.some((column, at) =>
    data.layers[at].labels || column.some((node) => isLong(node, at)));
  const plain = data.examples.kind === "image" ? BOX.pictured : BOX.width;
  const widest = long ? BOX.labelled : plain;
  // One number beside a name, or two, need room: many columns scroll sideways.
  const valued = data.flow === "product" ? BOX.labelled - 30 : BOX.valued;
  const least = nodes ? valued : BOX.least;
  const width = Math.max(available, columns.length * (least + 30));
  const boxWidth = Math.max(least, Math.min(widest, width / columns.length - 30));
  const stride = columns.length > 1 ? (width - boxWidth - 4) / (columns.length - 1) : 0;
  const x = (at) => 2 + at * stride;
  // A column of fewer boxes is spread over the height.
  const y = columns.map((column) => {
    const gap = Math.min(step * 2.5, (height - BOX.top) / Math.max(column.length, 1));
    const first = BOX.top + (height - BOX.top - gap * column.length) / 2 + (gap - boxHeight) / 2;
    return new Map(column.map((node, i) => [node, first + gap * i]));
  });
  const root = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, class: "graph",
    role: "group", "aria-label": "graph: arrow keys move, Enter opens" });
  const lines = [];
  gaps.forEach(({ shown }, at) => {
    const most = shown.length ? Math.abs(shown[0].value) : 1;
    [...shown].reverse().forEach((edge) => {
      const share = Math.abs(edge.value) / most;
      const start = [x(at) + boxWidth, y[at].get(edge.from) + boxHeight / 2];
      const end = [x(at + 1), y[at + 1].get(edge.to) + boxHeight / 2];
      const bend = (end[0] - start[0]) / 2;
      const path = `M${start}C${start[0] + bend},${start[1]} ${end[0] - bend},${end[1]} ${end}`;
      const line = draw("path", { d: path, class: `edge ${edge.value < 0 ? "minus" : "plus"}`,
        "data-value": edge.value, "stroke-width": 0.6 + 4 * share, opacity: 0.25 + 0.6 * share });
      lines.push({ line, at, ...edge });
      root.append(line);
    });
  });
  const boxes = columns.map((column, at) => {
    const layer = data.layers[at];
    const most = nodes
      ? Math.max(...column.map((node) => Math.abs(nodes[at].get(node).part)), 0)
      : layer.largest;
    root.append(draw("text", { x: x(at), y: 13, class: "title" },
      clipped(layer.title, Math.max(8, Math.floor((at + 1 < columns.length ? stride : boxWidth) / 7)))));
    return column.map((node) => {
      const part = nodes ? nodes[at].get(node).part : layer.strength[node];
      const box = nodeBox(at, node, part, most, nodes ? nodes[at].get(node) : null,
        [x(at), y[at].get(node), boxWidth, boxHeight]);
      root.append(box);
      return box;
    });
  });
  boxes.forEach((column, at) => column.forEach((box, i) => {
    const node = columns[at][i];
    const light = () => lightUp(root, lines, boxes, columns, at, node);
    box.addEventListener("mouseenter", light);
    box.addEventListener("focus", light);
    box.addEventListener("mouseleave", () => root.classList.remove("lit"));
    box.addEventListener("blur", () => root.classList.remove("lit"));
  }));
  root.addEventListener("keydown", (event) => moveInGraph(event, boxes, columns, gaps));
  const first = boxes.flat()[0];
  if (first) first.setAttribute("tabindex", "0");
  return root;
}

function nodeBox(at, node, part, most, own, [x, y, width, height]) {
  const name = nameOf(at, node);
  const label = labelOf(at, node);
  const share = most ? Math.abs(part) / most : 0;
  const tone = part < 0 ? "--minus-rgb" : "--plus-rgb";
  const measured = own && data.flow === "product" && own.value !== own.part;
  const side = own ? signed(part) + (measured ? ` (${number(own.value)})` : "") : "";
  const example = strongestImage(at, node);
  const left = example < 0 ? 5 : height + 1;
  const letters = Math.floor((width - left - 5) / 6.3) - (side ? side.length + 1 : 0);
  const told = own
    ? `${name}${label && ` (${label})`}: value ${number(own.value)}, ${data.part_name} ${signed(part)}`
    : `${name}${label && ` (${label})`}: ${data.strength_name} ${number(part)}`;
  return draw("a", { href: linkTo(at, node), tabindex: "-1", class: part < 0 ? "minus" : "plus",
    "aria-label": told },
    draw("title", {}, told),
    draw("rect", { x, y, width, height, rx: 3,
      style: `fill:rgb(var(${tone}) / ${0.06 + 0.44 * share})` }),
    example < 0 ? null : draw("image", { x: x + 2, y: y + 2, width: height - 4, height: height - 4,
      href: imageAddress(example) }),
    draw("text", { x: x + left, y: y + height / 2 + 4 }, clipped(label ? `${name} ${label}` : name, Math.max(letters, 4))),
    side ? draw("text", { x: x + width - 5, y: y + height / 2 + 4, "text-anchor": "end" }, side) : null);
}

function lightUp(root, lines, boxes, columns, at, node) {
  const near = columns.map(() => new Set());
  near[at].add(node);
  for (const edge of lines) {
    const leaves = edge.at === at && edge.from === node;
    const arrives = edge.at === at - 1 && edge.to === node;
    edge.line.classList.toggle("on", leaves || arrives);
    if (leaves) near[at + 1].add(edge.to);
    if (arrives) near[at - 1].add(edge.from);
  }
  boxes.forEach((column, i) => column.forEach((box, k) =>
    box.classList.toggle("on", near[i].has(columns[i][k]))));
  root.classList.add("lit");
}

// Up and down in a column; left and right along the strongest edge, or straight.
function moveInGraph(event, boxes, columns, gaps) {
  const at = boxes.findIndex((column) => column.includes(event.target.closest("a")));
  if (at < 0) return;
  const i = boxes[at].indexOf(event.target.closest("a"));
  const node = columns[at][i];
  let next = null;
  if (event.key === "ArrowDown") next = boxes[at][i + 1];
  else if (event.key === "ArrowUp") next = boxes[at][i - 1];
  else if (event.key === "ArrowRight" && at + 1 < boxes.length) {
    const edge = gaps[at].shown.find((e) => e.from === node);
    next = boxes[at + 1][edge ? columns[at + 1].indexOf(edge.to) : 0];
  } else if (event.key === "ArrowLeft" && at > 0) {
    const edge = gaps[at - 1].shown.find((e) => e.to === node);
    next = boxes[at - 1][edge ? columns[at - 1].indexOf(edge.from) : 0];
  } else return;
  event.preventDefault();
  if (next) next.focus();
}
