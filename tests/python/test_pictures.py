"""The pictures of the pages are what their code draws now, and each page has what a page of its kind has."""

from pathlib import Path

import numpy as np
import pytest
import question_pictures

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUESTIONS = sorted((DOCS / "questions").glob("*.md"))
QUICK = sorted(set(question_pictures.PICTURES) - {"landscape_digits.png"})      # which trains


def squares(path, side=16):
    """The mean colour of each square of a picture."""
    from matplotlib.image import imread

    picture = imread(path)[..., :3]
    height, width = (n // side * side for n in picture.shape[:2])
    return picture[:height, :width].reshape(height // side, side, width // side, side, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("name", QUICK)
def test_a_picture_is_what_its_code_draws(name, tmp_path):
    question_pictures.PICTURES[name](tmp_path / "drawn.png")
    shown, drawn = squares(DOCS / "pictures" / name), squares(tmp_path / "drawn.png")
    assert shown.shape == drawn.shape
    # Another smoothing of letters and lines changes a few squares by some 0.1; other colours, another curve, far more
    assert np.abs(shown - drawn).mean() < 0.01


@pytest.mark.parametrize("page", QUESTIONS, ids=lambda page: page.stem)
def test_a_question_has_formula_code_and_picture(page):
    text = page.read_text()
    assert all(mark in text for mark in ("$$", "```python\n>>> ", "\n![", "\nMore: "))


def test_every_picture_stands_on_a_page():
    pages = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    pictures = (path.relative_to(DOCS).as_posix() for path in (DOCS / "pictures").rglob("*.png"))
    assert [name for name in pictures if name not in pages] == []
