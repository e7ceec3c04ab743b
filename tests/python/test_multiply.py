"""Products with several vectors: through objectives and operators, their errors, their order, their memory."""

import numpy as np
import pytest

import optcore as oc
from optcore import nn

LAYERS = {"shares": [nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)],
          "deep": [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.GELU(), nn.Linear(4, 3)],
          "a norm behind": [nn.Linear(6, 5, bias=False), nn.Tanh(), nn.LayerNorm(5), nn.SiLU(), nn.Linear(5, 3)],
          "a norm at once": [nn.Linear(6, 5), nn.BatchNorm(5), nn.ReLU(), nn.Linear(5, 3)],
          "one layer": [nn.Linear(6, 3, bias=False)], "does not": [nn.BatchNorm(6), nn.Linear(6, 3)]}


def objective(name, **options):
    rng = np.random.default_rng(0)
    net = nn.Sequential(*LAYERS[name], seed=1, dtype="float64")
    return nn.objective(net, "cross_entropy", rng.standard_normal((40, 6)), rng.integers(0, 3, 40), **options)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("kind", ["hvp", "gauss_newton", "fisher"])
def test_each_is_what_one_alone_would_be(name, kind):
    obj = objective(name, mode="eval", l1=0.1, l2=0.2)
    assert obj.together == (1 if name == "does not" else 5)
    vs, batch = np.random.default_rng(2).standard_normal((4, obj.size)), np.array([3, 1, 4])
    for rows in (None, batch):
        for v, product in zip(vs, obj.multiply(obj.theta0, vs, rows, kind), strict=True):
            one = getattr(obj, kind)(obj.theta0, v, rows)
            assert np.linalg.norm(product - one) < 1e-13 * np.linalg.norm(one)  # some ten roundings
            product[:] = 0  # it is the caller's own
    assert np.array_equal(obj.multiply(obj.theta0, list(vs[:1]))[0], obj.hvp(obj.theta0, vs[0]))


def test_a_subclass_with_a_product_of_its_own_has_it_here_too():
    obj, v = objective("shares"), np.ones(53)
    expected = 2 * obj.hvp(obj.theta0, v), obj.gauss_newton(obj.theta0, v)

    class Twice(type(obj)):
        def hvp(self, theta, v, batch=None):
            return 2 * super().hvp(theta, v, batch)

    obj.__class__ = Twice
    assert np.array_equal(obj.multiply(obj.theta0, [v])[0], expected[0])
    assert np.array_equal(oc.curvature.Hessian(obj, obj.theta0) @ v[:, None], expected[0][:, None])
    assert np.array_equal(obj.multiply(obj.theta0, [v], kind="gauss_newton")[0], expected[1])


@pytest.mark.parametrize("name", ["shares", "deep", "a norm behind"])
def test_what_is_kept_is_counted(name):
    """What products in several directions turn, too."""
    obj = objective(name)
    obj.multiply(obj.theta0, np.eye(obj.size)[:3])
    state = obj._point.pieces[0].state
    records = [*state.records, *(r.columns for r in state.records if r.columns)]
    kept = {id(a): a.nbytes for r in records for a in (r.x, r.y, r.dy) if a is not None}
    rows = sum(r.x.nbytes + 2 * r.y.nbytes for r in state.records)
    assert rows < sum(kept.values()) <= obj._bytes(state)
    assert (obj._bytes(state) == 2 * rows) == (name == "deep")  # nothing else but what has an example a column


def test_any_objective_has_it():
    H = np.array([[2.0, 1.0], [1.0, 3.0]])
    obj = oc.Objective(lambda t: 0.5 * t @ H @ t, lambda t: H @ t, theta0=np.zeros(2))
    assert obj.together == 1
    np.testing.assert_allclose(obj.multiply(np.ones(2), [[1, 0], (0, 1)]), H, rtol=1e-9)  # central differences: 4e-11


def test_mistakes_are_named():
    obj, two = objective("shares"), np.ones((2, 53))
    with pytest.raises(ValueError, match="kind: expected one of 'hvp', 'gauss_newton', 'fisher', got 'hessian'"):
        obj.multiply(obj.theta0, two, kind="hessian")
    with pytest.raises(ValueError, match="vs: expected at least one vector, got none"):
        obj.multiply(obj.theta0, [])
    with pytest.raises(ValueError, match=r"vs: expected shape \(53,\), got \(52,\)"):
        obj.multiply(obj.theta0, [np.ones(53), np.ones(52)])
    with pytest.raises(ValueError, match=r"vs: expected shape \(53,\), got \(\)"):
        obj.multiply(obj.theta0, np.ones(53))  # one vector is no matrix
    with pytest.raises(TypeError, match="vs: expected float64, got complex128"):
        obj.multiply(obj.theta0, two * 1j)
    with pytest.raises(ValueError, match='mode: expected "eval" for the empirical Fisher matrix'):
        objective("does not").multiply(np.zeros(objective("does not").size), [np.zeros(33)], kind="fisher")
    plain = oc.Objective(lambda t: 0.0, lambda t: 0 * t, theta0=np.zeros(2))
    with pytest.raises(TypeError, match="obj: expected an objective that knows the model's outputs"):
        plain.multiply(np.zeros(2), np.eye(2), kind="gauss_newton")


def test_an_operator_counts_and_multiplies_matrices():
    obj, seen = objective("shares"), []
    H = oc.curvature.Hessian(obj, obj.theta0, progress=seen.append)
    vs = np.random.default_rng(3).standard_normal((7, obj.size))
    dense = H @ np.eye(obj.size)
    assert seen == list(range(1, obj.size + 1))
    # Sums of 53 terms in float64, in another order.
    np.testing.assert_allclose(H @ vs.T, dense @ vs.T, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(H.multiply(vs), vs @ dense, rtol=1e-12, atol=1e-14)
    assert H.products == obj.size + 14
    assert (H @ np.empty((obj.size, 0))).shape == (obj.size, 0)


class Counting(oc.Objective):
    """A diagonal matrix, whose products say with how many others they were asked for."""

    together = 5

    def __init__(self):
        super().__init__(theta0=np.zeros(3000))
        self.asked = []

    def hvp(self, theta, v, batch=None):
        return np.linspace(-1, 2, 3000) * v

    def loss(self, theta, batch=None):
        return 0.0

    def multiply(self, theta, vs, batch=None, kind="hvp"):
        self.asked.append(len(vs))
        return super().multiply(theta, vs, batch, kind)


@pytest.mark.parametrize(("probes", "bases", "asked"), [(10, 100, [5, 5]), (7, 100, [4, 3]), (10, 3, [3, 3, 2, 2])])
def test_probes_of_a_density_ask_together_as_far_as_memory_allows(probes, bases, asked):
    obj = Counting()
    alone = oc.curvature.spectral_density(np.diag(np.linspace(-1, 2, 3000)), probes, 8)
    found = oc.curvature.spectral_density(oc.curvature.Hessian(obj, obj.theta0), probes, 8, memory=8 * 3000 * 9 * bases)
    assert found.products == 8 * probes
    assert obj.asked == [count for count in asked for _ in range(8)]
    np.testing.assert_allclose(found.density, alone.density, rtol=1e-8, atol=1e-12)  # the same starts: rounding only


@pytest.mark.parametrize(("probes", "bases", "asked"), [(10, 100, [2, 2, 3, 3]), (7, 100, [2, 2, 2]), (4, 100, []),
                                                        (30, 100, [5] * 6), (10, 5, [5, 5]), (10, 4, [4, 3, 3])])
def test_probes_that_may_run_at_once_go_in_four_groups_or_more(probes, bases, asked):
    obj = Counting()
    obj.concurrent = True
    with oc.threads(1):
        oc.curvature.spectral_density(oc.curvature.Hessian(obj, obj.theta0), probes, 8, memory=8 * 3000 * 9 * bases)
    assert sorted(obj.asked) == sorted(count for count in asked for _ in range(8))


def test_estimates_ask_together():
    obj = Counting()
    H = oc.curvature.Hessian(obj, obj.theta0)
    # 3000 values from -1 to 2; a wrong pairing of v and H v, whose products have the mean 0, would give about 0.
    assert abs(oc.curvature.trace(H, 33).value - 1500) < 150
    assert obj.asked == [5, 5, 5, 5, 5, 5]  # 11 each for H S, H Q and H g; single ones as such
    obj.asked.clear()
    assert abs(oc.curvature.diagonal(H, 12).value - np.linspace(-1, 2, 3000)).max() < 1e-12
    assert obj.asked == [5, 5, 2]
