"""Tables and picture of what `feature_quality` has measured."""

from __future__ import annotations

import numpy as np
from _page import DOCS, markdown, text, write_between

PAGE, PICTURE = DOCS / "feature_quality.md", DOCS / "images/feature_quality.png"


def over_layers(name, how=np.mean, of="layers"):
    return lambda row: how([layer[name] for layer in row[of]]) if of in row else None


def of_layer(index, of="layers"):
    def found(row):
        return row[of][index]["selectivity of the top"] if of in row else None

    return found


def compared(how, name, maps=slice(None)):
    def found(row):
        values = row.get(how, {}).get(name)
        return None if values is None else np.mean(values[maps])

    return found


# Of the maps, those between features.
BETWEEN = slice(1, -1)

# Of each table: what a column is, and to how many digits.
TABLES = {
    "What the features that a network computes fire on": {
        "lost": (lambda row: row["points lost"], 2),
        "used": (over_layers("used", sum), 0),
        "fires on": (over_layers("density"), 2),
        "purity": (over_layers("purity"), 2),
        "entropy": (over_layers("entropy"), 2),
        "selective": (over_layers("selectivity"), 2),
        "top 100": (over_layers("selectivity of the top"), 2),
        "by flow": (over_layers("selectivity by what they bring"), 2),
    },
    "What those that its autoencoders encode fire on": {
        "R2": (lambda row: np.mean(row.get("R2 of computed features", np.nan)), 2),
        "used": (over_layers("used", sum, of="encoded"), 0),
        "fires on": (over_layers("density", of="encoded"), 2),
        "purity": (over_layers("purity", of="encoded"), 2),
        "entropy": (over_layers("entropy", of="encoded"), 2),
        "selective": (over_layers("selectivity", of="encoded"), 2),
        "top 100": (over_layers("selectivity of the top", of="encoded"), 2),
    },
    "The column top 100 by layer": {
        "layer 1": (of_layer(0), 2),
        "layer 2": (of_layer(1), 2),
        "layer 3": (of_layer(2), 2),
        "encoded 1": (of_layer(0, "encoded"), 2),
        "encoded 2": (of_layer(1, "encoded"), 2),
        "encoded 3": (of_layer(2, "encoded"), 2),
    },
    "Weights and features that make 90 % of the largest output": {
        "from pixels": (lambda row: row["weights read"][0], 0),
        "1 to 2": (lambda row: row["weights read"][1], 1),
        "2 to 3": (lambda row: row["weights read"][2], 1),
        "to logit": (lambda row: row["weights read"][3], 1),
        "not zero": (lambda row: sum(row["weights not zero"][1:]), 0),
        "features": (lambda row: sum(row["features read"]), 1),
    },
    "What another fit has too": {
        "alike": (compared("same model", "correlation"), 2),
        "cosine": (compared("same model", "cosine"), 2),
        "edges": (compared("same model", "edges", BETWEEN), 2),
        "chance": (compared("same model", "edges by chance", BETWEEN), 2),
        "other: alike": (compared("other model", "correlation"), 2),
        "other: edges": (compared("other model", "edges", BETWEEN), 2),
    },
}


def tables(seeds):
    """Return the rows of each table, by its title; those without figures are left out.

    Parameters
    ----------
    seeds : list of list of dict
        What is measured of each network, a list a seed.
    """
    found = {}
    for title, columns in TABLES.items():
        found[title] = []
        for same in zip(*seeds, strict=True):
            cells = {
                name: text([value(one) for one in same], digits)
                for name, (value, digits) in columns.items()
            }
            if any(cells.values()):
                ends = {"of": same[0]["of"], "weights": sum(same[0]["weights"])}
                found[title].append({**ends, **cells})
    return found


def page_tables(record):
    """Return the tables of docs/feature_quality.md."""
    lines = []
    for recipe, seeds in _measured(record).items():
        about = f"{recipe.capitalize()} models: mean and spread over {len(seeds)}"
        lines += [f"### {about}", ""]
        for title, rows in tables(seeds).items():
            cells = [{**row, "weights": f"{row['weights']:,}"} for row in rows]
            lines += [f"**{title}**", "", markdown(cells)]
    return "\n".join(lines)


def _measured(record):
    return {name: part["seeds"] for name, part in record.items() if "seeds" in part}


def write_page(record):
    """Write the tables of the page and its picture."""
    write_between(PAGE, "feature_quality.py", page_tables(record))
    draw(record, PICTURE)


def draw(record, path):
    """Draw how selective each layer's features are, sorted, of the first model."""
    from matplotlib import pyplot as plt

    seeds = next(iter(_measured(record).values()))
    budget = max(row["budget"] or 0 for row in seeds[0])
    rows = [row for row in seeds[0] if row["budget"] in (None, budget)]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
    for layer, ax in enumerate(axes):
        for row in rows:
            values = row["layers"][layer]["quantiles of the top"][::-1]
            ax.plot(np.linspace(0, 1, len(values)), values, label=row["of"])
        ax.set(title=f"layer {layer + 1}", xlabel="share of the features")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("selectivity of the top 100 rows")
    axes[-1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
