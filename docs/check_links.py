"""Checks the links of a built site: ``python docs/check_links.py build/site``.

Links within the site, to pages, files and anchors, must lead somewhere. Links to other
sites are listed in ``external_links.txt`` beside the pages; ``--external`` asks for
each of them, where there is a network.
"""

from __future__ import annotations

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

OUTSIDE = {"http", "https"}


class Page(HTMLParser):
    """The links and anchors of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Keep what leads elsewhere, and what can be led to."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif (tag, name) in {
                *(("a", "href"), ("link", "href")),
                *(("img", "src"), ("script", "src"), ("source", "src")),
            }:
                self.links.append(value)


def read_site(site: Path) -> dict[Path, Page]:
    """Return the pages of a site by their paths."""
    paths = sorted(path.resolve() for path in site.rglob("*.html"))
    # What themes keep among their scripts is no page.
    return {path: Page(path) for path in paths if "_static" not in path.parts}


def broken_links(site: Path, pages: dict[Path, Page]) -> list[str]:
    """Return the links within a site that lead nowhere, each with its page."""
    site = site.resolve()
    broken = []
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            file = Path(unquote(parts.path))
            target = (path.parent / file).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not (target.is_relative_to(site) and target.is_file()) or (
                parts.fragment
                and target in pages
                and unquote(parts.fragment) not in pages[target].anchors
            ):
                broken.append(f"{path.relative_to(site)}: {link}")
    return broken


def external_links(pages: dict[Path, Page]) -> list[str]:
    """Return the links to other sites, each once."""
    links = {link for page in pages.values() for link in page.links}
    return sorted(link for link in links if urlsplit(link).scheme in OUTSIDE)


def answers(link: str) -> bool:
    """Whether another site answers; one that only refuses programs does."""
    request = Request(link, headers={"User-Agent": "skfeat documentation"})
    try:
        with urlopen(request, timeout=20):
            return True
    except HTTPError as error:
        return error.code in {401, 403, 405, 429}
    except OSError:
        return False


def main():
    """Check a site, and exit with 1 if a link is broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="ask other sites too")
    options = parser.parse_args()

    pages = read_site(options.site)
    broken = broken_links(options.site, pages)
    external = external_links(pages)
    listed = options.site / "external_links.txt"
    listed.write_text("\n".join([*external, ""]), encoding="utf-8")
    if options.external:
        broken += [link for link in external if not answers(link)]
    for link in broken:
        print(f"broken link: {link}")
    print(
        f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links, "
        f"{len(broken)} broken; {len(external)} links to other sites in {listed}"
    )
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
