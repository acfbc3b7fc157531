"""Print the tables of docs/parameters.md from the table in the code; --write them."""

import sys
from pathlib import Path

from skfeat.utils._ignored import TABLE

PAGE = Path(__file__).parents[1] / "parameters.md"
BEGIN, END = "<!-- parameters.py -->\n", "<!-- end -->"


def tables():
    """Return a table for each estimator: its parameters that do not always matter."""
    parts = []
    for estimator, rows in TABLE.items():
        lines = [f"### {estimator}", "", "| parameter | needs | otherwise |"]
        lines.append("|---|---|---|")
        always = []
        for name, row in rows.items():
            if not row.rules and not row.note:
                always.append(f"`{name}`")
                continue
            otherwise = "error" if row.refused else "warning" if row.told else "silent"
            needs = "; ".join(filter(None, [row.rules and row.text(), row.note]))
            lines.append(f"| `{name}` | {needs} | {otherwise if row.rules else ''} |")
        if len(lines) == 4:
            lines = lines[:2]
        lines += ["", f"Always: {', '.join(always)}."]
        parts.append("\n".join(lines))
    return "\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(
            before + BEGIN + tables() + END + rest.partition(END)[2], encoding="utf-8"
        )
    else:
        print(tables())
