"""The explorer's page: its size, the time to write and open it, and to answer a click.

Three pages: an unwrapped network on MNIST with 3 x 256 features; a network of 4 x 1,024
features with random weights, on images of MNIST; a language pair of 4,096 features on
each side, of rows that are sums of random vectors of a word and of the one before. They
are opened from a file in Chromium without a window, which needs its driver. Times to
answer are from the change of the address, or of the text searched for, to the end of
the frame that shows the answer; frames are 16.7 ms apart.

``python benchmarks/explorer_page.py`` writes ``records/explorer_page.json``; with
``--pictures docs/images`` it writes the pictures of the first page, and no record.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from _browser import Chromium
from _common import load_mnist, print_table, train_mlp, write_record
from _language_model_text import load_books
from _page import markdown
from scipy import sparse

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.activations import TopK
from skfeat.capture import Capture
from skfeat.chain import Chain
from skfeat.language import LayerPair
from skfeat.network import SparseFeatureNetwork

ANSWER = """
const done = () => new Promise((resolve) => requestAnimationFrame(() => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = resolve;
  port2.postMessage(null);
}));
const times = [];
return (async () => {
  for (const asked of arguments[1]) {
    await done();
    const start = performance.now();
    if (arguments[0] === "address") {
      const changed = new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
      location.hash = asked;
      await changed;
    } else {
      const box = document.getElementById("search");
      box.value = asked;
      box.dispatchEvent(new Event("input"));
    }
    await done();
    times.push(performance.now() - start);
  }
  return times;
})();
"""  # noqa: E501


def digits(path, n_rows, n_features):
    """Write the page of an unwrapped network on MNIST."""
    X, y, X_test, y_test = load_mnist()
    model = train_mlp(X[:15_000], y[:15_000], epochs=3, seed=0)
    part = SparseAutoencoder(n_features, k=16, max_iter=3, random_state=0)
    unwrapper = FeatureUnwrapper(
        model, autoencoder=part, max_iter=3, task="classification", random_state=0
    )
    unwrapper.fit(X[:8000], y[:8000])
    start = time.perf_counter()
    unwrapper.explore(X_test[:n_rows], y_test[:n_rows], path, image_shape=(28, 28))
    return time.perf_counter() - start


def random_network(path, n_rows, n_features):
    """Write the page of a network of random weights, four to a feature."""
    rng = np.random.RandomState(0)
    m, d = n_features, 784
    coefs = [
        sparse.csr_array(rng.randn(m, m) * (rng.rand(m, m) < 4 / m)) for _ in range(3)
    ]
    network = SparseFeatureNetwork(
        front=Chain.from_steps([], n_features_in=d),
        encoder_coef=rng.randn(m, d),
        encoder_intercept=np.zeros(m),
        encoder_bias=np.zeros(d),
        activation=TopK(min(32, m)),
        coefs=coefs,
        intercepts=[np.zeros(m)] * 3,
        links=["relu"] * 3,
        decoder_coef=rng.randn(m, 10),
        decoder_intercept=np.zeros(10),
        back=Chain.from_steps([], n_features_in=10),
        layer_names=["one", "two", "three", "four"],
        classes=np.arange(10),
    )
    _, _, X, y = load_mnist()
    start = time.perf_counter()
    network.explore(X[:n_rows], y[:n_rows], path, image_shape=(28, 28))
    return time.perf_counter() - start


def pair_of_layers(path, n_rows, n_features):
    """Write the page of a pair fitted to sums of vectors of words."""
    text = "\n".join(load_books().values())
    words = re.findall(r" ?\w+|[^\w ]", text)[:n_rows]
    known, ids = np.unique(words, return_inverse=True)
    rng = np.random.RandomState(0)
    vectors = rng.randn(len(known), 64).astype(np.float32)
    X = vectors[ids] + 0.5 * np.roll(vectors[ids], 1, axis=0)
    hidden = np.maximum(X @ rng.randn(64, 256).astype(np.float32) / 8 - 1, 0)
    Y = hidden @ rng.randn(256, 64).astype(np.float32) / 8
    pair = LayerPair(
        *(SparseAutoencoder(n_features, k=6, max_iter=2) for _ in "ab"),
        connector=FeatureConnector(alpha=0.0005, link="identity", fit_intercept=False),
        n_nonzero_coefs=None,
        min_events=5,
        random_state=0,
    ).fit(X, Y)
    place = np.arange(len(ids))
    capture = Capture({}, place // 128, place % 128, ids)
    start = time.perf_counter()
    pair.explore(X, Y, path, capture=capture, decode=known.tolist())
    return time.perf_counter() - start


CASES = [
    ("MNIST, 3 x 256 features", digits, 10_000, 256, 3),
    ("network, 4 x 1,024 features, images", random_network, 10_000, 1024, 4),
    ("language pair, 2 x 4,096 features, passages", pair_of_layers, 40_000, 4096, 2),
]
SMOKE = [
    ("smoke, network", random_network, 60, 24, 4),
    ("smoke, pair", pair_of_layers, 2_000, 24, 2),
]


def measure(page, n_features, n_layers, n_rounds):
    """Open a page, click and search in it; return milliseconds."""
    rng = np.random.RandomState(0)
    with Chromium() as browser:
        opened = []
        for _ in range(n_rounds):
            browser.open("about:blank")
            browser.open(page)
            browser.wait("document.documentElement.dataset.ready")
            opened.append(
                float(browser.run("return document.documentElement.dataset.ready"))
            )
        n_shown = browser.run("return document.querySelectorAll('#rows a').length")
        first = 1 if n_layers > 2 else 0  # inputs come before the features
        features = [
            f"#/feature/{first + rng.randint(n_layers)}/{rng.randint(n_features // 2)}"
            for _ in range(10 * n_rounds)
        ]
        asked = {
            "open a feature": ("address", list(dict.fromkeys(features))),
            "open a row": ("address", [f"#/row/{i}" for i in range(n_shown)]),
            "open the network": ("address", ["#/", "#/row/0"] * n_rounds),
            "search": ("text", ["f", "f1", "f1_", "f1_1", "", "o", "of"] * n_rounds),
        }
        found = {"open the file, ms": statistics.median(opened)}
        for name, question in asked.items():
            times = browser.run(ANSWER, *question)
            found[f"{name}, ms"] = statistics.median(times)
            found[f"{name}, slowest, ms"] = max(times)
    return found


def page_table(record):
    """Return the table of the page about the explorer, times with the slowest."""
    rows = []
    for row in record["pages"]:
        cells = {"page": row["page"], "MB": f"{row['size, MB']:.1f}"}
        cells["opens, ms"] = f"{row['open the file, ms']:.0f}"
        for name in ("open a feature", "open a row", "open the network", "search"):
            slowest = row[f"{name}, slowest, ms"]
            cells[f"{name}, ms"] = f"{row[f'{name}, ms']:.0f} ({slowest:.0f})"
        rows.append(cells)
    return markdown(rows)


def draw(page, folder):
    """Write pictures of a row and of a feature."""
    with Chromium() as browser:
        browser.open(page)
        browser.wait("document.documentElement.dataset.ready")
        strongest = browser.run(
            "return document.querySelector("
            "'svg.graph a[href^=\"#/feature/2/\"].plus').getAttribute('href')"
        )
        for name, asked in (("row", "#/row/2"), ("feature", strongest)):
            browser.run(ANSWER, "address", [asked])
            browser.screenshot(folder / f"explorer_{name}.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny, writes no record")
    parser.add_argument("--pictures", type=Path, help="a folder for them, no record")
    options = parser.parse_args()
    if options.pictures:
        with tempfile.TemporaryDirectory() as folder:
            name, write, n_rows, n_features, _ = CASES[0]
            page = Path(folder) / "page.html"
            write(page, n_rows, n_features)
            draw(page, options.pictures)
        return
    cases, n_rounds = (SMOKE, 1) if options.smoke else (CASES, 5)
    rows = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # How well the networks fit is not asked.
        warnings.simplefilter("ignore")
        for i, (name, write, n_rows, n_features, n_layers) in enumerate(cases):
            page = Path(folder) / f"{i}.html"
            seconds = write(page, n_rows, n_features)
            row = {"page": name, "rows": n_rows, "to write it, s": seconds}
            row["size, MB"] = page.stat().st_size / 1e6
            rows.append(row | measure(page, n_features, n_layers, n_rounds))
    medians = [key for key in rows[0] if "slowest" not in key]
    print_table(rows, medians)
    if not options.smoke:
        payload = {"n_rounds": n_rounds, "pages": rows}
        print(f"\nRecord: {write_record('explorer_page', payload)}")


if __name__ == "__main__":
    main()
