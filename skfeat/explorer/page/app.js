// What the address of the page asks for, and the keys that work everywhere.

const main = document.getElementById("main");

function show() {
  onFilter = () => {};
  const [, kind, first, second] = location.hash.split("/");
  const layer = data.layers[first];
  let parts;
  let title = "The network";
  if (kind === "feature" && layer && /^\d+$/.test(second) && Number(second) < layer.size) {
    parts = featureView(Number(first), Number(second));
    title = nameOf(first, second);
  } else if (kind === "row" && data.rows[first]) {
    parts = rowView(Number(first));
    title = parts[0].textContent;
  } else {
    parts = networkView();
  }
  main.replaceChildren(...parts.flat(Infinity).filter((part) => part));
  main.scrollTop = 0;
  document.title = `${title} – ${data.title}`;
  for (const link of document.querySelectorAll("#rows a")) {
    if (link.getAttribute("href") === location.hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function buildRows() {
  const { kind } = data.examples;
  document.getElementById("rows").append(...data.rows.map((row, i) => {
    const text = nameOfRow(row, i);
    return el("a", { href: `#/row/${i}`, title: text, "aria-label": text },
      kind === "image" ? picture(row.example, pictureScale(30)) : text);
  }));
}

function onKey(event) {
  const search = document.getElementById("search");
  if (event.key === "/" && document.activeElement !== search) {
    search.focus();
    search.select();
    event.preventDefault();
  } else if (event.key === "Escape") {
    if (document.activeElement === search && search.value) {
      search.value = filters.query = "";
      refilter(false);
    } else {
      document.activeElement.blur();
      location.hash = "#/";
    }
  } else if (event.key.startsWith("Arrow") && document.activeElement === document.body) {
    const first = main.querySelector("svg.graph a");
    if (first) {
      first.focus();
      event.preventDefault();
    }
  }
}

loadData().then(() => {
  buildFilters();
  buildRows();
  addEventListener("hashchange", show);
  addEventListener("keydown", onKey);
  show();
  requestAnimationFrame(() => {
    document.documentElement.dataset.ready = String(performance.now());
  });
}).catch((error) => {
  const old = typeof DecompressionStream === "undefined";
  main.textContent = old ? "This page needs a browser of 2023 or later." : `This page cannot be shown: ${error}`;
});
