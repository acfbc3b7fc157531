"""Results as text on a screen and as HTML in a notebook."""

import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfeat.language import Connection, Connections, ReplacementLoss
from skfeat.utils._shown import WIDTH, Column, Shown, write_html, write_text
from skfeat.utils._table import Table

HOSTILE = "<script>alert('1')</script>&\"\n\x1b[31m"


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.titles = [], "", {}
        self._title = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._title = dict(attrs).get("title")

    def handle_data(self, data):
        if self._title is not None:
            self.titles[data] = self._title
        self.text += data
        self._title = None


def columns(n=2):
    return [
        Column("name", [f"row {i}" for i in range(n)], is_text=True),
        Column("rate", [f"{i / n:.2f}" for i in range(n)], "share of the rows"),
    ]


def test_text_has_the_table_and_says_below_what_it_is():
    lines = write_text(["Rates", columns()]).splitlines()
    assert lines == [
        "Rates",
        "name   rate",
        "row 0  0.00",
        "row 1  0.50",
        "rate: share of the rows",
    ]
    assert write_text(["Rates", columns()], legend=False).splitlines() == lines[:-1]


def test_html_has_the_table_and_says_in_its_head_what_it_is():
    page = Page(write_html(["Rates", columns()]))
    assert page.titles == {"rate": "share of the rows"}
    assert page.tags.count("tr") == 3
    assert page.tags.count("th") == 2
    assert page.tags.count("td") == 4
    assert page.tags.count("dd") == 1
    for text in ("Rates", "row 1", "0.50"):
        assert text in page.text
    assert "dl" not in Page(write_html([columns()[:1]])).tags


@pytest.mark.parametrize("where", ["line", "title", "meaning", "cell"])
def test_what_looks_like_html_is_text(where):
    given = {key: HOSTILE if key == where else "x" for key in ("title", "meaning")}
    cell = HOSTILE if where == "cell" else "x"
    html = write_html(
        [HOSTILE if where == "line" else "x", [Column(cells=[cell], **given)]]
    )
    page = Page(html)
    assert "script" not in page.tags
    assert "<script>alert('1')</script>&\"" in page.text + str(page.titles)
    assert "\x1b" not in html


def test_bars_stand_for_values_in_html_alone():
    bars = Column("", ["", "", ""], bars=[1.0, -0.5, 0.0])
    html = write_html([[*columns(3), bars]])
    assert 'class="p" style="width:50.0%"' in html
    assert 'class="n" style="width:25.0%"' in html
    assert html.count("<i ") == 2
    assert write_text([[*columns(3), bars]]) == write_text([columns(3)])


@given(
    names=st.lists(st.text(max_size=300), min_size=1, max_size=60),
    line=st.text(max_size=300),
)
def test_text_fits_a_screen_whatever_the_names(names, line):
    table = [
        Column("name", names, line, is_text=True),
        Column("n", ["1,234"] * len(names), "number"),
    ]
    lines = write_text([line, table]).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert len(lines) <= 41 + 4 + 5
    assert "1,234" in lines[-2] or "n: number" in lines[-1] or len(names) == 1


def test_long_tables_keep_their_ends():
    lines = write_text([columns(1000)], legend=False).splitlines()
    assert len(lines) == 41
    assert lines[1].startswith("row 0 ")
    assert lines[-1].startswith("row 999 ")
    assert sum(line.startswith("...") for line in lines) == 1
    exact = write_text([columns(40)], legend=False)
    assert len(exact.splitlines()) == 41
    assert "..." not in exact


class Lengths(Table):
    def _parts(self):
        return [[Column(name, list(map(str, self[name]))) for name in self]]


def test_all_that_shows_itself_does_so_at_a_prompt_and_in_a_notebook():
    table = Lengths({"unit": "cm"}, {"length": [1, 2]})
    assert repr(table) == str(table) == "length\n     1\n     2"
    assert Page(table._repr_html_()).tags.count("td") == 2


def test_tables_make_data_frames():
    pandas = pytest.importorskip("pandas")
    table = Lengths({"unit": "cm"}, {"length": [1, 2]})
    expected = pandas.DataFrame({"length": [1, 2]})
    pandas.testing.assert_frame_equal(table.to_frame(), expected)


def test_without_pandas_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"^to_frame needs pandas, which is not"):
        Lengths({}, {"length": [1]}).to_frame()


def connection(**changed):
    entries = {"output": 3, "name": HOSTILE, "kind": "or", "formula": "1.00*F1_0"}
    entries |= {"score": 0.5, "score_shuffled": 0.1, "f1": 0.75, "f1_shuffled": 0.2}
    return Connection(**entries | {"r2": float("nan")} | changed)


def test_a_list_of_connections_is_a_table():
    pandas = pytest.importorskip("pandas")
    found = Connections([connection(), connection(name="<b>", kind="single")])
    assert isinstance(found, list)
    lines = str(found).splitlines()
    assert lines[0].split()[:3] == ["output", "kind", "score"]
    assert lines[2].split()[:4] == ["<b>", "single", "0.5", "0.1"]
    assert not {"script", "b"} & set(Page(found._repr_html_()).tags)
    frame = found.to_frame()
    assert frame["f1"].tolist() == [0.75] * 2
    assert list(frame)[:3] == ["output", "name", "kind"]
    assert isinstance(frame, pandas.DataFrame)
    assert Connections().to_frame().empty
    assert "no connections" in Connections()._repr_html_()


def test_losses_in_a_notebook():
    losses = {"original": 2.0, HOSTILE: 2.5, "mean": 3.0, "zero": 4.0}
    page = Page(ReplacementLoss.from_losses(losses, 7)._repr_html_())
    assert "script" not in page.tags
    assert page.tags.count("tr") == 5
    assert page.titles["loss"].endswith("in nats")
    assert isinstance(ReplacementLoss.from_losses(losses, 7), Shown)
