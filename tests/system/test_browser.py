"""The report of a run in a real browser. Needs Chromium: a target of its own, ``make test-browser``."""

import json
import re
import shutil
import subprocess

import pytest

from optcore.cli import main

CHECKS = """<script>addEventListener("load", () => {
  const images = [...document.images];
  document.body.dataset.checks = JSON.stringify({
    images: images.length,
    decoded: images.filter(i => i.complete && i.naturalWidth > 0 && i.getBoundingClientRect().width > 100).length,
    overflow: document.documentElement.scrollWidth - innerWidth,
    width: innerWidth,
    verdict: document.querySelector(".name").getBoundingClientRect().height > 0,
    foreign: performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
  });
});</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run <b>&")
    table = folder / "a<script>alert(1)</script>.csv".replace("/", "")
    rows = (f"{i % 7},{i % 5},{'no' if i % 7 < i % 5 else 'yes'}" for i in range(80))
    table.write_text("\n".join(["x,y,kind", *rows]))
    run = str(folder / "run")
    assert main(["train", str(table), "--out", run, "--hidden", "6", "--epochs", "4", "--quiet"]) == 0
    assert main(["diagnose", run]) == 0
    return folder / "run" / "report.html"


def browse(path, *options):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser, "Chromium is not installed: apt-get install chromium"
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=4000",
               *options, f"file://{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)


def test_the_page_needs_nothing_else(page):
    """No script, no link, no address but those inside the page."""
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text, "the data set's name is shown as it is"
    assert not re.search(r"<(link|iframe|object|embed)|@import|url\(", text)
    assert all(a.startswith("data:image/svg+xml;base64,") for a in re.findall(r'(?:src|href)="([^"]*)', text))


@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser(page, tmp_path, width):
    copy = tmp_path / "page.html"
    copy.write_text(page.read_text().replace("</body>", CHECKS + "</body>"))
    done = browse(copy, f"--window-size={width},2000", "--dump-dom")
    assert "CONSOLE" not in done.stderr
    checks = json.loads(re.search(r'data-checks="([^"]*)"', done.stdout).group(1).replace("&quot;", '"'))
    assert checks["width"] == width
    assert checks["images"] == checks["decoded"] >= 6
    assert checks["verdict"]
    assert checks["foreign"] == []
    assert checks["overflow"] <= 0


def test_it_is_not_blank(page, tmp_path):
    picture = tmp_path / "page.png"
    browse(page, "--window-size=1280,2000", f"--screenshot={picture}")
    from matplotlib import image

    pixels = image.imread(picture)[..., :3]
    assert pixels.shape[:2] == (2000, 1280)
    assert (pixels.std(axis=(1, 2)) > 0.01).mean() > 0.5, "most rows of the picture show something"
