"""The built site: ``make docs`` builds it and runs this."""

import re
from pathlib import Path

import pytest
from public_api import public_objects
from sphinx.util.inventory import InventoryFile

SITE = Path(__file__).resolve().parents[2] / "build" / "site"
PAGES = [path for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts]


@pytest.fixture(scope="module")
def pages():
    """Name -> page of each documented object."""
    data = InventoryFile.loads((SITE / "objects.inv").read_bytes(), uri="")
    return {name: item.uri.split("#")[0] for kind in data.data.values() for name, item in kind.items()}


def test_every_public_name_has_a_page(pages):
    missing = [name for name, _ in public_objects() if name not in pages or not (SITE / pages[name]).is_file()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(SITE)))
def test_a_page_loads_nothing_from_elsewhere(page):
    """A link that is followed on a click may lead away; what a browser loads by itself may not."""
    text = page.read_text()
    loaded = re.findall(r"<(?:script|img|iframe|source|video|embed)\b[^>]*?\b(?:src|srcset)=[\"']([^\"']*)", text)
    loaded += re.findall(r"<link\b[^>]*?\bhref=[\"']([^\"']*)", text)
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []
    local = (address.split("?")[0].split("#")[0] for address in loaded if not address.startswith("data:"))
    assert [address for address in local if not (page.parent / address).exists()] == []


def test_style_sheets_load_nothing_from_elsewhere():
    sheets = "".join(path.read_text() for path in SITE.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']*", sheets) == []


def test_formulae_are_drawn_by_the_browser_itself():
    pages = "".join(path.read_text() for path in PAGES)
    assert "<math" in pages
    assert "MathJax" not in pages
