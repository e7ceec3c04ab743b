"""Penalties in training: compiled and in Python passes, lasso and ridge regression, checkpoints, bad coefficients."""

import numpy as np
import pytest
from sklearn.linear_model import Lasso, Ridge

import optcore as oc
from optcore import nn
from optcore.nn import losses
from optcore.nn.penalty import penalty_of


def problem(n=200, k=20, dtype="float32"):
    """Targets that depend on three of the features only."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, k)).astype(dtype)
    return X, (X[:, :1] - 2 * X[:, 1:2] * X[:, 2:3]).astype(dtype)


def network(dtype="float32", **options):
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm(16), nn.Tanh(), nn.Linear(16, 1), dtype=dtype, **options)


def test_which_elements_are_weights():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm(2), nn.LayerNorm((4, 4)),
                        nn.Residual(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2)), nn.Flatten(), nn.Linear(32, 3),
                        input_shape=(1, 6, 6))
    spans = {(p.start, p.stop): name for name, p in zip(net.parameters, net.program.parameters(), strict=True)}
    assert [spans[span] for span in net.program.weights] == ["0.weight", "3.0.weight", "5.weight"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernel(dtype):
    """Closed form in longdouble, over spans within a block and across several."""
    rng, spans, l1, l2 = np.random.default_rng(1), [(3, 20), (100, 30_000)], 0.125, 0.75
    w, g = (rng.standard_normal(30_010).astype(dtype) for _ in range(2))
    w[::5] = [0.0, -0.0] * 3001
    inside = np.zeros(w.size, bool)
    for start, stop in spans:
        inside[start:stop] = True
    exact, before = np.where(inside, w, 0).astype(np.longdouble), g.copy()
    penalty = oc.nn.penalty.Penalty(spans, l1, l2)
    expected = float(l1 * abs(exact).sum() + l2 / 2 * (exact**2).sum())
    assert penalty.value(w) == pytest.approx(expected, rel=1e-14)       # pairwise sums in double
    assert penalty.add_gradient(w, g) == penalty.value(w)
    np.testing.assert_allclose(g, before + l1 * np.sign(exact) + l2 * exact, rtol=0,
                               atol=8 * np.finfo(dtype).eps)            # three roundings of values below 4
    assert np.array_equal(g[~inside], before[~inside])


class Own(losses.MSE):
    """Without a compiled form."""


def test_bits_compiled_and_not():
    X, y = problem()
    nets, grads = [network(), network()], np.empty((2, network().theta.size), "float32")
    values = [net.loss_and_grad(X, y, loss, grad, l1=0.1, l2=0.2)
              for net, loss, grad in zip(nets, ("mse", Own()), grads, strict=True)]
    assert values[0] == values[1]
    assert np.array_equal(grads[0], grads[1])
    assert values[0] > network().loss_and_grad(X, y, "mse", grads[0])


class Apart(oc.optim.AdamW):
    """A rule with a step of its own, which the compiled step does not take over."""

    def step(self, grads):
        super().step(grads)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_fit_joined_and_apart_on_any_number_of_threads(threads):
    X, y = problem()
    X = np.tile(X, (1, 40))     # 800 x 64 weights: enough to share

    def theta(rule, n):
        net = nn.Sequential(nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 1))
        with oc.threads(n):
            history = oc.train.fit(net, X, y, "mse", rule(net.theta, clip_norm=1.0), epochs=2, progress=False, l1=1e-3,
                                   l2=1e-2)
        return net.theta, history.steps["loss"]

    (expected, losses_one), (found, losses_here) = theta(oc.optim.AdamW, 1), theta(Apart, threads)
    assert np.array_equal(expected, found)
    assert losses_one == losses_here


def fitted(rule, X, y, **penalties):
    """Half the mean squared error, by full batches whose steps get small; weights and intercept."""
    net = nn.Sequential(nn.Linear(20, 1), dtype="float64")
    opt = rule(net.theta, lr=oc.schedules.cosine_decay(0.1, 10_000))
    oc.train.fit(net, X, y, nn.MSE(scale=0.5), opt, epochs=10_000, batch_size=None, progress=False, **penalties)
    return net.parameters["0.weight"][0], net.parameters["0.bias"]


def test_l1_is_the_lasso_and_sparser():
    X, y = problem(dtype="float64")
    lasso = Lasso(alpha=0.1, tol=1e-12).fit(X, y[:, 0])
    w, bias = fitted(oc.optim.SGD, X, y, l1=0.1)
    # A subgradient steps across 0 and back, by less than the last rates times l1.
    np.testing.assert_allclose(w, lasso.coef_, atol=1e-4)
    np.testing.assert_allclose(bias, lasso.intercept_, atol=1e-4)
    plain, _ = fitted(oc.optim.SGD, X, y)
    assert np.sum(abs(plain) < 1e-3) <= 1
    assert np.sum(abs(w) < 1e-3) == np.sum(lasso.coef_ == 0) >= 10


def test_l2_is_ridge_regression():
    """The intercept goes without: its targets have mean 3."""
    X, y = problem(dtype="float64")
    ridge = Ridge(alpha=0.5 * len(X)).fit(X, y[:, 0] + 3)
    w, bias = fitted(oc.optim.SGD, X, y + 3, l2=0.5)
    np.testing.assert_allclose(w, ridge.coef_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(bias, ridge.intercept_, rtol=1e-10)


def test_resume_asks_for_the_same_coefficients(tmp_path):
    X, y = problem()
    path = tmp_path / "run.safetensors"
    oc.train.fit(network(), X, y, "mse", epochs=1, progress=False, l2=0.1, checkpoint=path)
    for given, message in (({"l2": 0.2}, "l2 0.1 there, 0.2 here"), ({}, "l2 0.1 there, None here")):
        with pytest.raises(ValueError, match=message):
            oc.train.fit(network(), X, y, "mse", epochs=2, progress=False, resume=path, **given)
    whole, net = network(), network()
    oc.train.fit(whole, X, y, "mse", epochs=2, progress=False, l2=0.1)
    oc.train.fit(net, X, y, "mse", epochs=2, progress=False, l2=np.float64(0.1), resume=path)
    assert np.array_equal(whole.theta, net.theta)


def test_diagnosis_sees_the_penalty():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 3)), rng.standard_normal((100, 1))
    net, why = nn.Sequential(nn.Linear(3, 1), dtype="float64"), oc.train.Diagnose()
    oc.train.fit(net, X, y, "mse", oc.optim.SGD(net.theta, lr=0.2), epochs=300, batch_size=None, callbacks=[why],
                 progress=False, l2=0.5)
    # The gradient of the loss alone is not small there.
    assert why.diagnoses[0][1].verdict == "minimum"


@pytest.mark.parametrize("name", ["l1", "l2"])
@pytest.mark.parametrize(("value", "error", "message"), [
    (-1.0, ValueError, r"expected a number in \[0, inf\), got -1"),
    (np.inf, ValueError, r"expected a number in \[0, inf\), got inf"),
    (np.nan, ValueError, r"expected a number in \[0, inf\), got nan"),
    ("0.1", TypeError, "expected a number, got '0.1'"),
    (True, TypeError, "expected a number, got True"),
])
def test_bad_coefficients(name, value, error, message):
    X, y = problem()
    net = network()
    before, grad = net.theta.copy(), np.full_like(net.theta, 7)
    for call in (lambda **k: oc.train.fit(net, X, y, "mse", progress=False, **k),
                 lambda **k: nn.objective(net, "mse", X, y, **k),
                 lambda **k: net.loss_and_grad(X, y, "mse", grad, **k),
                 lambda **k: penalty_of(net.program, **{"l1": 0.0, "l2": 0.0, **k})):
        with pytest.raises(error, match=f"{name}: {message}"):
            call(**{name: value})
    assert np.array_equal(net.theta, before)
    assert (grad == 7).all()
    assert net.buffers["1.num_batches_tracked"] == 0
