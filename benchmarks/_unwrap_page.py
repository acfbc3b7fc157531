"""Tables and picture of what `unwrap_mnist` has measured."""

from __future__ import annotations

import statistics

from _page import DOCS, markdown, text, write_between

PAGE, PICTURE = DOCS / "trained_together.md", DOCS / "images/trained_together.png"
WAYS = ("together", "apart", "pruned")
COLOURS = dict(zip(WAYS, ("#1f6f9f", "#8a8a8a", "#c8702a"), strict=True))
# Measured before rows were mixed, and kept as the other side of that comparison.
UNMIXED = "pixels, rows not mixed"
TITLES = {
    "pixels": "From the pixels to the logits, every weight counted",
    "patient": "The same, in three times the epochs",
    UNMIXED: "The first of these",
    "kept": "First layer kept, its encoder left alone: weights a connector",
    "trained": "First layer kept, its encoder trained: weights a connector",
    "digits": "Digits, from the pixels to the logits, every weight counted",
    "regression": "Diabetes, a regression: lost is R2, times 100",
    "wide": "512-512-512, 1,024 features a layer",
}


def by_way(seeds):
    """Return rows of all seeds by what is unwrapped, then by way.

    Parameters
    ----------
    seeds : list of list of dict
        Rows of each seed, named like "1000", "1000, apart" and "1000, pruned".
    """
    found = {}
    for same in zip(*seeds, strict=True):
        name, way = same[0]["how"], "together"
        for other in WAYS[1:]:
            if name.endswith(f", {other}"):
                name, way = name.removesuffix(f", {other}"), other
        found.setdefault(name, {})[way] = same
    return found


def three(rows, name, digits=2):
    """Return the means over seeds of what each layer has, without what is exact."""
    if not rows or name not in rows[0]:
        return ""
    layers = zip(*(row[name] for row in rows), strict=True)
    means = [statistics.fmean(values) for values in layers]
    found = (f"{mean:.{digits}f}" for mean in means if mean == mean)
    return " ".join(cell.removeprefix("0") for cell in found)


def table(seeds):
    """Return the Markdown table of a part with its controls."""
    rows = []
    for name, ways in by_way(seeds).items():
        cells = {"": name}
        for way in WAYS:
            values = [row["lost"] for row in ways.get(way, ())]
            cells[f"{way}: lost"] = text(values, 2, 100)
        for way in WAYS:
            values = [row.get("KL") for row in ways.get(way, ())]
            cells[f"{way}: KL"] = text(values, 4)
        for way in WAYS[:2]:
            cells[f"R2 {way}"] = three(ways.get(way), "R2 of network")
        cells["autoencoders"] = three(ways.get("together"), "R2 of autoencoders", 3)
        rows.append(cells)
    return markdown(_without_empty(rows))


def _without_empty(rows):
    used = [name for name in rows[0] if any(row[name] for row in rows)]
    return [{name: row[name] for name in used} for row in rows]


def controls_table(seeds):
    """Return the Markdown table of the networks of features beside all controls."""
    found = {}
    for same in zip(*seeds, strict=True):
        name, _, way = same[0]["how"].rpartition(", ")
        cells = found.setdefault(name, {"": name})
        cells[f"{way}: lost"] = text([row["lost"] for row in same], 2, 100)
        cells[f"{way}: KL"] = text([row["KL"] for row in same], 4)
    # What is compared stands together.
    rows = [
        {name: row[name] for name in sorted(row, key=lambda name: name.endswith("KL"))}
        for row in found.values()
    ]
    return markdown(rows)


def cells_of(same):
    """Return the cells of one network of features, of all its seeds."""
    return {
        "lost": text([row["lost"] for row in same], 2, 100),
        "KL": text([row["KL"] for row in same], 4),
        "R2": three(same, "R2 of network"),
        "autoencoders": three(same, "R2 of autoencoders", 3),
    }


def mixes(part):
    """Return the share of mixed rows that a part was measured with."""
    return part["run"].get("mixup", 0.0)


def curve(record):
    """Return the Markdown table of accuracy against faithfulness."""
    rows = []
    share = mixes(record["faithfulness"])
    alike = (record[name] for name in ("pixels", UNMIXED) if name in record)
    pixels = next(part for part in alike if mixes(part) == share)
    recipe = pixels["run"]["recipes"][0]
    default = {
        f"{name.removeprefix(recipe + ', ')}, faithfulness 0.1": ways
        for name, ways in by_way(pixels["seeds"]).items()
        if name.startswith(recipe)
    }
    every = by_way(record["faithfulness"]["seeds"]) | default

    def order(name):
        total, value = name.split(", faithfulness ")
        return int(total), float(value)

    for name in sorted(every, key=order):
        total, value = name.split(", faithfulness ")
        same = every[name]["together"]
        rows.append({"weights": total, "faithfulness": value, **cells_of(same)})
    return markdown(rows)


def mixup_table(seeds):
    """Return the Markdown table of the shares of mixed rows."""
    rows = []
    for same in zip(*seeds, strict=True):
        what, value = same[0]["how"].split(", mixup ")
        live = [statistics.fmean(row["live"]) for row in same]
        cells = {"model, weights": what, "mixup": value, **cells_of(same)}
        rows.append({**cells, "features in use": f"{statistics.fmean(live):.0f}"})
    return markdown(rows)


def page_tables(record):
    """Return the tables of docs/trained_together.md."""
    lines = []
    last = UNMIXED if UNMIXED in record else "pixels"
    for part, title in TITLES.items():
        seeds = record.get(part, {}).get("seeds")
        # Parts that an earlier version measured count no weights in all.
        if not seeds or "weights in all" not in seeds[0][0]:
            continue
        lines += [_heading(title, record[part]), "", table(seeds)]
        if part == last and "controls" in record:
            found = record["controls"]["seeds"]
            lines += [_heading("Beside all controls", record["controls"]), ""]
            lines += [controls_table(found)]
        if part == last and "mixup" in record:
            found = record["mixup"]["seeds"]
            lines += [f"**Over the share of mixed rows** (seeds: {len(found)})", ""]
            lines += [mixup_table(found)]
        if part == last and "faithfulness" in record:
            title = "Accuracy against faithfulness"
            lines += [_heading(title, record["faithfulness"]), "", curve(record)]
    return "\n".join(lines)


def _heading(title, part):
    unmixed = "" if mixes(part) else ", rows not mixed"
    return f"**{title}** (seeds: {len(part['seeds'])}{unmixed})"


def write_page(record):
    """Write the tables of the page and its picture."""
    write_between(PAGE, "unwrap_mnist.py", page_tables(record))
    draw(record, PICTURE)


def draw(record, path):
    """Draw points lost against weights, with the seeds' range, a panel a recipe."""
    from matplotlib import pyplot as plt

    part = record["pixels"]
    recipes = part["run"]["recipes"]
    every = by_way(part["seeds"])
    size = (4.2 * len(recipes), 3.4)
    figure, axes = plt.subplots(1, len(recipes), figsize=size, sharey=True)
    for ax, recipe in zip(axes, recipes, strict=True):
        totals = part["run"]["totals"]
        for way in WAYS:
            lost = [
                [100 * row["lost"] for row in every[f"{recipe}, {total}"][way]]
                for total in totals
            ]
            means = [statistics.fmean(values) for values in lost]
            ax.plot(totals, means, "o-", color=COLOURS[way], label=way, markersize=4)
            least, most = [min(v) for v in lost], [max(v) for v in lost]
            ax.fill_between(totals, least, most, color=COLOURS[way], alpha=0.15, lw=0)
        ax.axhline(0, color="0.7", lw=0.8)
        ax.set(title=f"recipe: {recipe}", xlabel="weights from pixels to logits")
        ax.set_xscale("log")
        ax.set_xticks(totals, [f"{total:,}" for total in totals])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("points of accuracy lost")
    axes[-1].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
