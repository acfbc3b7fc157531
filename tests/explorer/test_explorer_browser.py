"""The explorer's page in a browser: clicked through, searched, and moved in by keys."""

import numpy as np
import pytest
from _browser import Chromium, find_chromium
from scipy import sparse

from skfeat.activations import TopK
from skfeat.chain import Chain
from skfeat.network import SparseFeatureNetwork

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="needs Chromium and its driver"),
]
EVIL = "</script><img src=x onerror=alert(1)>"
N = 700
GRAPH = "#main svg.graph"


@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def network():
    rng = np.random.RandomState(0)
    coefs = [
        sparse.csr_array(rng.randn(m, n) * (rng.rand(m, n) < 4 / n))
        for m, n in ((N, N), (N, N))
    ]
    names = [[f"F{i + 1}_{j}" for j in range(N)] for i in range(3)]
    names[1][5] = EVIL
    return SparseFeatureNetwork(
        front=Chain.from_steps([], n_features_in=16),
        encoder_coef=rng.randn(N, 16),
        encoder_intercept=np.zeros(N),
        encoder_bias=np.zeros(16),
        activation=TopK(20),
        coefs=coefs,
        intercepts=[np.zeros(N), np.zeros(N)],
        links=["relu", "relu"],
        decoder_coef=rng.randn(N, 4),
        decoder_intercept=np.zeros(4),
        back=Chain.from_steps([], n_features_in=4),
        layer_names=["one", "two", "three"],
        feature_names=names,
        classes=["a", "b", "c", "d"],
    )


@pytest.fixture
def page(browser, network, tmp_path):
    X = np.random.RandomState(1).rand(300, 16)
    path = network.explore(X, np.arange(300) % 3, tmp_path / "a.html", n_rows=6)
    return opened(browser, path)


def opened(browser, path):
    browser.open(path)
    browser.wait("document.documentElement.dataset.ready")
    return browser


def address(page):
    return page.run("return location.hash")


def heading(page):
    return page.run("return document.querySelector('main h2').firstChild.textContent")


def follow(page, selector):
    """Click a link, and wait for what it shows: the address changes a little before."""
    before = heading(page)
    page.click(selector)
    page.wait(f"document.querySelector('main h2').firstChild.data !== {before!r}")


def wait_for(page, name):
    """Wait until the page shows something of this name."""
    page.wait(f"document.querySelector('main h2').firstChild.data === {name!r}")


def test_it_opens_with_the_graph_and_loads_nothing(page):
    assert heading(page) == "The network"
    # Five columns: 16 inputs, the strongest 20 of three layers, 4 outputs.
    assert page.run(f"return document.querySelectorAll('{GRAPH} a').length") == 80
    assert page.run(f"return document.querySelectorAll('{GRAPH} path').length") > 100
    assert page.run("return performance.getEntriesByType('resource').length") == 0


def test_click_through_and_go_back(page, network):
    follow(page, f"{GRAPH} a[href^='#/feature/2/']")
    first, name = address(page), heading(page)
    j = int(first.split("/")[-1])
    assert name == network.feature_names_[1][j]
    assert page.run("return document.title").startswith(name)
    code = page.run("return document.querySelector('main code').textContent")
    assert code.startswith(f"{name} = ")
    follow(page, "main table a[href^='#/feature/1/']")
    assert heading(page).startswith("F1_")
    page.back()
    wait_for(page, name)
    assert address(page) == first
    page.back()
    wait_for(page, "The network")
    assert address(page) == ""


def test_neighbours_are_the_weights(page, network):
    coef = network.coefs_[1]
    j = int(np.argmax(np.diff(coef.indptr)))
    page.run(f"location.hash = '#/feature/3/{j}'")
    wait_for(page, f"F3_{j}")
    links = page.run(
        "return Array.from(document.querySelectorAll('main .side table')[0]"
        ".querySelectorAll('a'), (a) => a.textContent)"
    )
    sources = coef.indices[coef.indptr[j] : coef.indptr[j + 1]]
    assert sorted(links) == sorted(
        network.feature_names_[1][i][:28] for i in sources.tolist()
    )


def test_search_by_keys(page):
    page.press("/", *"f3_123")
    shown = "document.getElementById('count').textContent"
    assert page.run(f"return {shown}") == "1 of 2,120"
    page.press("Enter")
    wait_for(page, "F3_123")
    assert address(page) == "#/feature/3/123"
    page.press("Escape")
    assert page.run(f"return {shown}") == "2,120 of 2,120"
    page.press("Escape")
    wait_for(page, "The network")


def test_the_list_by_keys_draws_what_is_in_sight(page):
    page.press("/", *["ArrowDown"] * 40, "Enter")
    page.wait("document.querySelector('main h2').textContent !== 'The network'")
    assert page.run("return document.querySelectorAll('#list .item').length") < 60
    visible = page.run(
        "const box = document.getElementById('list').getBoundingClientRect();"
        "const own = document.querySelector('#list .current').getBoundingClientRect();"
        "return own.top >= box.top - 1 && own.bottom <= box.bottom + 1"
    )
    assert visible


def test_the_graph_by_keys(page):
    page.run("document.activeElement.blur()")
    page.press("ArrowDown")
    focused = "document.activeElement.getAttribute('href')"
    assert page.run(f"return {focused}").startswith("#/feature/0/")
    page.press("ArrowRight")
    assert page.run(f"return {focused}").startswith("#/feature/1/")
    assert page.run(f"return document.querySelector('{GRAPH}').classList[1]") == "lit"
    before = page.run(f"return {focused}")
    page.press("ArrowDown")
    assert page.run(f"return {focused}") != before
    page.press("ArrowLeft")
    assert page.run(f"return {focused}").startswith("#/feature/0/")
    wanted = page.run(f"return {focused}")
    page.press("Enter")
    page.wait(f"location.hash === '{wanted}'")


def test_a_row_is_the_attributed_one(page, network):
    follow(page, "#rows a:nth-child(3)")
    assert address(page) == "#/row/2"
    row = int(heading(page).split()[1])
    x = np.random.RandomState(1).rand(300, 16)[[row]]
    output = int(network.predict_raw(x).argmax())
    parts = network.attribute(x, output).features[1][0]
    shown = page.run(
        f"return Array.from(document.querySelectorAll('{GRAPH} "
        "a[href^=\"#/feature/2/\"]'), (a) => [Number(a.getAttribute('href')"
        ".split('/')[3]), a.lastChild.textContent, a.getAttribute('class')])"
    )
    assert len(shown) == min(20, np.count_nonzero(parts))
    for j, text, kind in shown:
        assert float(text.replace(",", "")) == pytest.approx(parts[j], rel=6e-3)
        assert kind == ("minus" if parts[j] < 0 else "plus")
    dashes = page.run(
        f"return getComputedStyle(document.querySelector('{GRAPH} .edge.minus'))"
        ".strokeDasharray"
    )
    assert dashes != "none"


def test_edges_of_a_row_are_its_flows(page, network):
    """The page computes them of weights, values and parts."""
    page.run("location.hash = '#/row/0'")
    page.wait("document.querySelector('main h2').textContent.startsWith('row')")
    row = int(heading(page).split()[1])
    x = np.random.RandomState(1).rand(300, 16)[[row]]
    flows = network.attribute(x, int(network.predict_raw(x).argmax())).flow(0, 1)
    before, after = (
        page.run(
            f"return Array.from(document.querySelectorAll('{GRAPH} "
            f'a[href^="#/feature/{layer}/"]\'), '
            "(a) => Number(a.getAttribute('href').split('/')[3]))"
        )
        for layer in (2, 3)
    )
    expected = flows.toarray()[np.ix_(after, before)]
    expected = expected[expected != 0]
    assert 5 < len(expected) < 60  # all of them are drawn
    drawn = page.run(
        f"return Array.from(document.querySelectorAll('{GRAPH} path'), "
        "(path) => Number(path.dataset.value))"
    )
    for flow in expected:
        assert np.isclose(drawn, flow, rtol=1e-3).any()


def test_names_are_texts(page):
    page.run("location.hash = '#/feature/2/5'")
    wait_for(page, EVIL)
    assert page.run("return document.querySelectorAll('img').length") == 0


def test_filters_leave_out_features_from_list_and_graph(page):
    count = "parseInt(document.getElementById('count').textContent.replace(',', ''))"
    before = page.run(f"return {count}")
    page.run(
        "const slider = document.querySelector('input[aria-label^=\"Strength\"]');"
        "slider.value = 6; slider.dispatchEvent(new Event('input'))"
    )
    assert page.run(f"return {count}") < before / 2
    page.run(
        "const layer = document.getElementById('layer');"
        "layer.value = '1'; layer.dispatchEvent(new Event('change'))"
    )
    assert page.run(
        "return Array.from(document.querySelectorAll('#list .item span:first-child'))"
        ".every((name) => name.textContent.startsWith('F1_'))"
    )


@pytest.mark.parametrize("asked", ["#/feature/9/1", "#/feature/1/-1", "#/row/99", "#x"])
def test_an_address_that_is_none_leads_to_the_network(page, asked):
    page.run("location.hash = '#/feature/1/1'")
    wait_for(page, "F1_1")
    page.run("location.hash = arguments[0]", asked)
    wait_for(page, "The network")


def test_light_and_dark(page):
    colors = []
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        colors.append(
            page.run("return getComputedStyle(document.body).backgroundColor")
        )
    page.prefer("light")
    assert colors == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_a_narrow_screen_has_the_list_above_and_room_for_values(page):
    try:
        page.screen(390, 850)
        page.run("location.hash = '#/row/0'")
        page.wait("document.querySelector('main h2').firstChild.data !== 'The network'")
        main, aside = (
            page.run(f"return document.querySelector('{part}').offsetWidth")
            for part in ("main", "aside")
        )
        assert main == aside == 390
        overlaps = page.run(
            f"return [...document.querySelectorAll('{GRAPH} a')].map((a) => "
            "[...a.querySelectorAll('text')].map((t) => t.getBoundingClientRect()))"
            ".filter((t) => t.length === 2 && t[0].right > t[1].left).length"
        )
        assert overlaps == 0
    finally:
        page.screen()


def test_pictures(browser, network, tmp_path):
    X = np.random.RandomState(1).rand(300, 16)
    path = network.explore(X, path=tmp_path / "a.html", image_shape=(4, 4))
    page = opened(browser, path)
    page.run(
        "location.hash = '#/feature/1/' + document.querySelector("
        f"'{GRAPH} a[href^=\"#/feature/1/\"]').getAttribute('href').split('/')[3]"
    )
    page.wait("document.querySelectorAll('main canvas.picture').length > 5")
    shades = page.run(
        "const canvas = document.querySelector('main canvas.picture');"
        "return Array.from(canvas.getContext('2d').getImageData(0, 0, 4, 4).data)"
    )
    assert len(set(shades[::4])) > 3
    assert shades[3::4] == [255] * 16
