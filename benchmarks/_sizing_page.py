"""Bytes, FLOPs and times of fits of known sizes, and the page that shows them."""

from __future__ import annotations

from math import log10
from pathlib import Path

# Bytes of a weight, and numbers kept of each: itself and two moments of Adam.
WEIGHT_BYTES, NUMBERS_A_WEIGHT = 4, 3
MOMENT_BYTES = 8
# Dense layers of moments up to this many numbers are held; beyond, shares of outputs.
MOST_MOMENTS = 2**28
# So many rows are added to the moments at a time, which goes through all of these.
ROWS_A_PASS = 8192

# Name, layers, d, m, k, rows, bytes of a value on disk, rows of the connector.
CASES = [
    ("MNIST, 784-64-64-64-10", 3, 64, 256, 8, 60_000, 4, 60_000),
    ("Pythia-70M, as in the article", 6, 512, 3072, 32, 500e6, 2, 3e6),
    ("Pythia-70M", 6, 512, 32_768, 32, 500e6, 2, 3e6),
    ("7B model", 32, 4096, 131_072, 32, 1e9, 2, 3e6),
    ("Gemma 2 2B", 26, 2304, 16_384, 32, 4e9, 2, 3e6),
    ("Gemma 2 2B", 26, 2304, 1_048_576, 32, 16e9, 2, 3e6),
    ("Gemma 2 9B", 42, 3584, 16_384, 32, 4e9, 2, 3e6),
    ("Gemma 2 9B", 42, 3584, 131_072, 32, 8e9, 2, 3e6),
    ("Gemma 2 9B", 42, 3584, 1_048_576, 32, 16e9, 2, 3e6),
]


def step_flops(d, m, k):
    """Floating-point operations of a training step, a row.

    One dense product, the encoder's; decoding and the gradients of codes, decoder and
    encoder over the k active features. Adam's are shared by a batch and left out.
    """
    return 2 * d * m + 8 * k * d


def products(n_rows, n_inputs, n_outputs):
    """Multiply-adds of second moments of rows with so many active features."""
    return n_rows * (n_inputs * (n_inputs + 1) / 2 + n_inputs * n_outputs)


def size_case(case, found):
    """Count the bytes and FLOPs of a case; extrapolate its times.

    Parameters
    ----------
    case : tuple
        One of `CASES`.
    found : dict
        The record: rates, and the steps that were measured.

    Returns
    -------
    dict
    """
    name, n_layers, d, m, k, n_rows, value_bytes, n_connector_rows = case
    rates = found["rates"]
    steps = [row for row in found["step"] if (row["d"], row["m"]) == (d, m)]
    flops = n_rows * step_flops(d, m, k)
    per_second = steps[0]["FLOPs a second"] if steps else rates["FLOPs a second"]
    n_products = products(n_connector_rows, k, k)
    gram = MOMENT_BYTES * 2 * m**2
    holds_gram = 2 * m**2 <= MOST_MOMENTS
    cost = rates[
        "seconds of moments" if holds_gram else "seconds without a Gram matrix"
    ]
    connector = n_products * cost["products"]
    if holds_gram:
        connector += n_connector_rows * m**2 / ROWS_A_PASS * cost["passes"]
        connector += m**2 / rates["pairs a second"]
    else:
        connector += m**2 * cost["pairs"]
    outputs = min(m, max(1, found["numbers of a share of outputs"] // m))
    row_bytes = value_bytes * d
    return {
        "case": name,
        "layers": n_layers,
        "d": d,
        "m": m,
        "k": k,
        "rows": int(n_rows),
        "bytes a value": value_bytes,
        "bytes of rows": int(n_rows * row_bytes),
        "bytes of weights and moments": training_bytes(d, m),
        "bytes of the Gram matrices": gram,
        "Gram matrices are held": holds_gram,
        "bytes of a block": MOMENT_BYTES * outputs * m,
        "FLOPs": flops,
        "seconds of a pass": flops / per_second,
        "measured": bool(steps),
        "seconds of all layers": n_layers * flops / per_second,
        "seconds of reading": n_rows * row_bytes / rates["bytes a second from disk"],
        "rows of the connector": int(n_connector_rows),
        "seconds of a connector": connector,
    }


def training_bytes(d, m):
    """Bytes of an untied autoencoder's weights and of Adam's moments."""
    return WEIGHT_BYTES * NUMBERS_A_WEIGHT * (2 * d * m + m + d)


def short(value):
    """Write a number with two digits or three, and its thousands as a letter."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return _digits(value / size) + " " + letter
    return _digits(value) + " "


def _digits(value):
    if value == 0:
        return "0"
    return (
        f"{value:.{max(0, 1 - int(log10(value)))}f}" if value >= 1 else f"{value:.2g}"
    )


def of_bytes(value):
    """Write bytes in powers of 1024."""
    for power, unit in ((5, "PiB"), (4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**power:
            return f"{_digits(value / 1024**power)} {unit}"
    return f"{value} bytes"


def of_time(seconds):
    """Write seconds in the unit that suits them."""
    for size, unit in ((365.25 * 86_400, "years"), (3600, "h"), (60, "min")):
        if seconds >= size:
            value = seconds / size
            return (
                f"{value:,.0f} {unit}" if value >= 100 else f"{_digits(value)} {unit}"
            )
    return f"{_digits(seconds)} s"


def table(rows):
    """Write dicts as a table of Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _sizes(case):
    return f"{case['case']}, {case['d']} to {case['m']:,}"


def _bytes_table(cases):
    return table(
        [
            {
                "of one layer": _sizes(case),
                "rows": short(case["rows"]).strip(),
                "rows on disk": of_bytes(case["bytes of rows"]),
                "weights, moments": of_bytes(case["bytes of weights and moments"]),
                "Gram matrices": of_bytes(case["bytes of the Gram matrices"])
                + ("" if case["Gram matrices are held"] else ", not held"),
                "one block": of_bytes(case["bytes of a block"]),
            }
            for case in cases
        ]
    )


def _hours_table(cases):
    def mark(case):
        return "m" if case["measured"] else "e"

    return table(
        [
            {
                "": _sizes(case),
                "FLOPs of a pass": short(case["FLOPs"]).strip()
                if case["FLOPs"] < 1e15
                else f"{case['FLOPs']:.1e}",
                "a pass": f"{of_time(case['seconds of a pass'])} {mark(case)}",
                "layers": case["layers"],
                "all layers": f"{of_time(case['seconds of all layers'])} {mark(case)}",
                "reading the rows": f"{of_time(case['seconds of reading'])} e",
                "a connector": f"{of_time(case['seconds of a connector'])} e",
            }
            for case in cases
        ]
    )


def _rates_table(record):
    errors = record["predicted over measured, less one"]
    rows = [
        {
            "what": f"step, {row['d']} to {row['m']:,}, k = {row['k']}",
            "measured": f"{row['rows a second']:,.0f} rows a second, "
            f"{short(row['FLOPs a second'])}FLOP/s",
            "prediction": "",
        }
        for row in record["step"]
    ]
    for name, text, rate in (
        ("moments", "second moments", None),
        ("solve", "solution, moments known", "pairs a second"),
        ("wide", "connector, no Gram matrix", None),
    ):
        for row in record[name]:
            extra = f", {short(row[rate])}{rate}" if rate else ""
            rows.append(
                {
                    "what": f"{text}, {row['m']:,} features, {row['rows']:,} rows",
                    "measured": f"{_digits(row['seconds'])} s{extra}",
                    "prediction": "",
                }
            )
        rows[-1]["prediction"] = _error(errors[name])
    rows[len(record["step"]) - 1]["prediction"] = _error(errors["step"])
    disk = record["disk"]
    rows.append(
        {
            "what": f"rows of a mapped file of {of_bytes(disk['bytes'])}",
            "measured": f"{short(disk['bytes a second'])}B/s",
            "prediction": "",
        }
    )
    return table(rows)


def _error(share):
    return f"{share:+.0%} of the time"


def page(record):
    """Write docs/sizing.md, every measured number of it from the record."""
    on = record["machine"]
    text = Path(__file__).with_name("sizing_page.md").read_text(encoding="utf-8")
    return text.format(
        cpu=on["cpu"],
        threads=on["threads"],
        cores=on["cores"],
        date=on["date"],
        bytes=_bytes_table(record["cases"]),
        hours=_hours_table(record["cases"]),
        rates=_rates_table(record),
        rows=short(record["cases"][1]["rows of the connector"]).strip(),
        step_error=_error(record["predicted over measured, less one"]["step"]),
    )
