"""The example of the edge of stability, and its picture."""

import runpy
from pathlib import Path

from matplotlib import image

ROOT = Path(__file__).resolve().parents[2]


def test_gradient_descent_ends_at_the_edge_of_stability(tmp_path):
    """At three rates lambda_max ends within 2 % of 2 / lr (Cohen et al. 2021)."""
    main = runpy.run_path(str(ROOT / "examples" / "edge_of_stability.py"))["main"]
    shares = main(tmp_path / "edge.png")
    assert set(shares) == {0.2, 0.1, 0.05}
    assert all(0.98 <= share <= 1.02 for share in shares.values()), shares
    assert image.imread(tmp_path / "edge.png").shape[1] > 1000
