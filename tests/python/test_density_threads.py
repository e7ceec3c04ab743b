"""Several probes of a density at once: the same bits, the memory that was allowed, errors and Ctrl-C as themselves."""

import copy
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

import optcore as oc
from optcore import nn
from optcore.process import at_once, is_apart

N, STEPS = 3000, 12
VALUES = np.random.default_rng(0).uniform(-1, 1, N)


class Diagonal(oc.Objective):
    """1/2 sum of l_i t_i^2: its products say in which threads they ran, and how many at a time."""

    concurrent = True

    def __init__(self):
        super().__init__(theta0=np.zeros(N))
        self.threads, self.inside, self.most, self.products = set(), 0, 0, 0
        self.lock, self.act = threading.Lock(), lambda number: None

    def loss(self, theta, batch=None):
        return float(0.5 * theta @ (VALUES * theta))

    def hvp(self, theta, v, batch=None):
        with self.lock:
            self.inside += 1
            self.products += 1
            self.most, number = max(self.most, self.inside), self.products
            self.threads.add(threading.get_ident())
        try:
            self.act(number)
            time.sleep(1e-4)  # lets the other thread in
            return VALUES * v
        finally:
            with self.lock:
                self.inside -= 1


def density(obj, probes=4, **options):
    H = oc.curvature.Hessian(obj, obj.theta0, **{k: options.pop(k) for k in ("progress",) if k in options})
    return oc.curvature.spectral_density(H, probes, STEPS, **options)


def network():
    net = nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.BatchNorm(60), nn.Linear(60, 60), nn.Dropout(0.2), nn.Tanh(),
                        nn.Linear(60, 4), seed=2)
    rng = np.random.default_rng(4)
    return nn.objective(net, "cross_entropy", rng.standard_normal((300, 20), "float32"), rng.integers(0, 4, 300),
                        batch_size=128, memory=1)  # 1 byte: what products start from is evaluated in each thread


def wide():
    """Products that are cut into panels for the threads."""
    net = nn.Sequential(nn.Linear(90, 130), nn.ReLU(), nn.Linear(130, 3), seed=2)
    rng = np.random.default_rng(4)
    return nn.objective(net, "cross_entropy", rng.standard_normal((400, 90), "float32"), rng.integers(0, 3, 400))


@pytest.mark.parametrize("make", [Diagonal, network, wide])
def test_the_same_bits_for_any_number_of_threads(make):
    found = []
    for threads in (1, 2, 3):
        with oc.threads(threads):
            found.append(density(make(), 5))
    for other in found[1:]:
        assert np.array_equal(other.density, found[0].density)
        assert repr(other.shares) == repr(found[0].shares)  # a share may be NaN
        assert other.products == found[0].products


def test_what_was_asked_before_does_not_change_bits():
    """An objective keeps what it evaluated at a point: the same whether a density or a gradient asked for it."""
    one, other = wide(), wide()
    _, gradient = one.loss_and_grad(one.theta0)
    after = density(one, 5)
    alone = density(other, 5)
    assert np.array_equal(after.density, alone.density)
    assert np.array_equal(gradient, other.loss_and_grad(other.theta0)[1])


@pytest.mark.parametrize("threads", [1, 2])
def test_work_that_may_have_its_like_beside_it_knows_for_any_number_of_threads(threads):
    with oc.threads(threads):
        for most in (1, 4):
            assert at_once(lambda item: (item, is_apart()), range(3), list, most) == [(i, most > 1) for i in range(3)]
    assert not is_apart()


def test_products_beside_others_differ_by_rounding_alone():
    """They are one call of a BLAS for all directions, in place of panels."""
    obj = wide()
    vs = np.random.default_rng(1).standard_normal((3, obj.size)).astype("float32")
    [beside] = at_once(lambda _: obj.multiply(obj.theta0, vs), range(1), list, 2)
    for product, alone in zip(beside, obj.multiply(obj.theta0, vs), strict=True):
        # Sums of up to 400 terms, twice: some hundred rounding units of 6e-8 at most, of the largest.
        np.testing.assert_allclose(product, alone, rtol=0, atol=1e-5 * abs(alone).max())


@pytest.mark.parametrize(("threads", "probes", "bases", "most"),
                         [(2, 4, 9, 2), (3, 4, 9, 3), (1, 4, 9, 1), (2, 1, 9, 1), (3, 4, 2, 2), (3, 4, 1, 1)])
def test_as_many_at_once_as_threads_probes_and_memory_allow(threads, probes, bases, most):
    obj = Diagonal()
    with oc.threads(threads):
        found = density(obj, probes, memory=8 * N * (STEPS + 1) * bases)
    assert (obj.most, obj.inside, found.steps, found.products) == (most, 0, STEPS, probes * STEPS)


def test_other_objectives_are_asked_one_at_a_time_in_the_caller_s_thread():
    obj = Diagonal()
    obj.concurrent = False
    with oc.threads(3):
        density(obj)
    assert (obj.most, obj.threads) == (1, {threading.get_ident()})
    assert not oc.Objective(abs, theta0=np.zeros(1)).concurrent
    assert network().concurrent


def test_progress_counts_every_product_once_and_in_order():
    seen = []
    with oc.threads(3):
        density(Diagonal(), 6, progress=seen.append)
    assert seen == list(range(1, 6 * STEPS + 1))


def test_an_operator_copies_and_pickles():
    H = oc.curvature.Hessian(network(), network().theta0)
    v = np.ones(H.shape[0])
    product = H @ v
    for other in (copy.copy(H), copy.deepcopy(H), pickle.loads(pickle.dumps(H))):
        assert np.array_equal(other @ v, product)
        assert (other.products, H.products) == (2, 1)


class Broken(Exception):
    pass


@pytest.mark.parametrize("where", ["product", "progress"])
def test_an_error_ends_the_others_and_is_raised_as_itself(where):
    def act(number):
        if number == 9:
            raise Broken(number)

    obj = Diagonal()
    if where == "product":
        obj.act, report = act, None
    else:
        report = act
    with oc.threads(2), pytest.raises(Broken, match="9"):
        density(obj, 10, progress=report)
    assert obj.inside == 0
    assert obj.products <= 11  # each thread had begun one more at most
    obj.act = lambda number: None
    density(obj, 2)  # and nothing is left stopped


def test_products_that_are_not_finite_are_said_to_be():
    obj = Diagonal()
    obj.hvp = lambda theta, v, batch=None: v * np.nan
    with oc.threads(2), pytest.raises(FloatingPointError, match="H: expected finite"):
        density(obj)


def test_the_threads_have_the_caller_s_numpy_errors():
    obj = Diagonal()
    obj.act = lambda number: np.float64(1) / np.float64(0)
    with oc.threads(2), np.errstate(divide="raise"), pytest.raises(FloatingPointError, match="divide by zero"):
        density(obj)


def test_ctrl_c_ends_all_of_them():
    obj = Diagonal()
    obj.act = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 9 else time.sleep(0.02)
    with oc.threads(2), pytest.raises(KeyboardInterrupt):
        density(obj, 10)
    assert obj.inside == 0
    assert obj.products < 20  # of 120
