"""oc.diagnose: the verdict at points whose kind is known, and what the report says."""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest

import optcore as oc
from optcore.diagnosis.measure import measure
from optcore.diagnosis.report import explain
from optcore.diagnosis.thresholds import Thresholds
from optcore.diagnosis.verdicts import decide

ROOT = Path(__file__).resolve().parents[2]


def network(scale=1.0, height=1.0, shift=0.0, start=(0.2, 0.9)):
    """height (1 - ab)^2 + shift with (a, b) = theta / scale."""
    return oc.Objective(lambda t: height * (1 - t[0] * t[1] / scale**2) ** 2 + shift,
                        lambda t: -2 * height * (1 - t[0] * t[1] / scale**2) * t[::-1] / scale**2,
                        theta0=scale * np.array(start))


def quadratic(values, start=1.0):
    values = np.asarray(values, float)
    return oc.Objective(lambda t: float(0.5 * t @ (values * t)), lambda t: values * t, lambda t, v: values * v,
                        theta0=np.full(values.size, start))


@pytest.mark.parametrize(("scale", "height", "shift"), [
    (1, 1, 0), (1, 1, 100.0), (1, 1e-6, 0), (1, 1e6, -1e6), (1e-3, 1, 0), (1e3, 1, 1.0)])
def test_verdicts_on_the_network(scale, height, shift):
    obj = network(scale, height, shift)
    for place, verdict in [((0, 0), "saddle"), ((1e-3, -2e-3), "saddle"), ((1, 1), "minimum"),
                           ((0.5, 0.5), "progressing"), ((3, 0.1), "progressing"), ((1.5, 1.5), "progressing")]:
        d = oc.diagnose(obj, scale * np.array(place))
        assert d.verdict == verdict, place
        assert d.causes[0].name == verdict
        assert 0.5 <= d.confidence < 1


def test_a_run_that_has_nearly_arrived_is_at_its_minimum():
    """What is left is below 1e-6 of what was gained; classify alone, which knows no start, calls it not critical."""
    obj = network()
    theta = np.array([1.0, 1.0]) - 1e-4
    assert oc.curvature.classify(obj, theta).kind == "not critical"
    assert oc.diagnose(obj, theta).verdict == "minimum"
    late = network(start=theta)  # as the objective of a network that was trained before
    assert oc.diagnose(late, theta).verdict == "progressing"
    assert oc.diagnose(late, theta, history=[0.7, 4e-8]).verdict == "minimum"
    assert oc.diagnose(network(start=(1e3, 1e3)), theta, history=[1e-8, 4e-8]).verdict == "progressing"  # it rose
    # On the other side of the valley the curvature is negative, -4e-4, and a step along it gains: no certificate.
    assert oc.diagnose(obj, np.array([1.0, 1.0]) + 1e-4).verdict == "progressing"


def test_the_start_is_named_for_what_it_is():
    theta = np.array([0.5, 0.3])
    there, elsewhere, told = (oc.diagnose(network(start=start), theta, history=history).evidence for start, history
                              in ((theta, None), ((0, 0), None), ((0, 0), [3.0, 2.0])))
    assert not {"loss at the start", "loss at obj.theta0"} & set(there)
    assert elsewhere["loss at obj.theta0"].value == 1.0
    assert told["loss at the start"].value == 3.0
    assert "loss at obj.theta0" not in told


@pytest.mark.parametrize(("curvature", "x", "verdict"), [
    (0.002, 1e-3, "saddle"), (0.002, 1e-5, "saddle"), (0.002, 2e-3, "progressing"), (2e-5, 1e-5, "undetermined")])
def test_negative_curvature_beside_a_saddle_is_no_minimum(curvature, x, verdict):
    """x^2/2 - c y^2/2 + y^4/4 falls by c^2/4 along y, here more than the gradient's x^2/2, or about as much."""
    obj = oc.Objective(lambda t: t[0] ** 2 / 2 - curvature * t[1] ** 2 / 2 + t[1] ** 4 / 4,
                       lambda t: np.array([t[0], -curvature * t[1] + t[1] ** 3]),
                       lambda t, v: np.array([v[0], (-curvature + 3 * t[1] ** 2) * v[1]]), theta0=np.array([3.0, 0.0]))
    d = oc.diagnose(obj, np.array([x, 0.0]))
    assert d.verdict == verdict
    assert not any(cause.name == "minimum" for cause in d.causes)
    assert "done" not in str(d)


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize(("rest", "slope"), [
    (lambda y: -(y**4), lambda y: -4 * y**3), (lambda y: y**3, lambda y: 3 * y**2),
    (lambda y: -(y**3), lambda y: -3 * y**2)])
def test_a_flat_direction_that_goes_down_is_no_minimum(rest, slope, shift):
    obj = oc.Objective(lambda t: t[0] ** 2 + rest(t[1]) + shift, lambda t: np.array([2 * t[0], slope(t[1])]),
                       theta0=np.zeros(2))
    d = oc.diagnose(obj, np.zeros(2))
    assert d.verdict == "undetermined"
    gain = d.evidence["gain along flat directions"].value
    assert gain == pytest.approx(max(-rest(0.1), -rest(-0.1)), rel=1e-3)  # at the radius; rounding of a loss of 1
    assert "flat direction" in d.causes[0].reason
    assert "lowers the loss" in d.remedy
    up = oc.Objective(lambda t: t[0] ** 2 + t[1] ** 4 + shift, lambda t: np.array([2 * t[0], 4 * t[1] ** 3]),
                      theta0=np.zeros(2))
    assert oc.diagnose(up, np.zeros(2)).verdict == "minimum"


def test_flat_directions_qualify_a_minimum():
    valley, bowl = oc.diagnose(network(), np.ones(2)), oc.diagnose(quadratic([1, 2]), np.zeros(2))
    assert bowl.missing == ()
    assert "done" in bowl.remedy
    assert valley.confidence < bowl.confidence
    assert "done" not in str(valley)
    assert "second order" in str(valley)
    assert any("curved paths" in item for item in valley.missing)
    flat = oc.diagnose(quadratic(np.r_[np.ones(5), np.zeros(20)]), np.zeros(25))
    assert flat.confidence < valley.confidence
    assert any("other flat directions, about 17" in item for item in flat.missing)  # k = 3 of 20 were searched
    assert any("dead" in item for item in flat.missing)


def test_a_network_whose_units_are_all_dead_is_not_done():
    """Every ReLU is off at every example: the logits are the output's bias, the loss log 2."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((40, 4)), np.arange(40) % 2
    net = oc.nn.Sequential(oc.nn.Linear(4, 6), oc.nn.ReLU(), oc.nn.Linear(6, 2), dtype="float64")
    net.parameters["0.bias"][:] = -50.0
    net.parameters["2.bias"][:] = 0.0
    obj = oc.nn.objective(net, "cross_entropy", x, y)
    d = oc.diagnose(obj, net.theta.copy())
    assert d.evidence["loss"].value == pytest.approx(np.log(2))
    assert d.verdict == "dead_units"
    assert d.evidence["dead units"].value == 1
    assert "100 % of the units of layer 0" in d.causes[0].reason
    assert "done" not in str(d)


def test_a_spectrum_that_is_not_resolved_is_no_license():
    values = np.random.default_rng(0).uniform(0.1, 1, 5000)
    m, _ = measure(quadratic(values), np.zeros(5000), None, None, None, {})
    m = dataclasses.replace(m, point=dataclasses.replace(m.point, zero_share=np.nan), searched=0)
    d = explain(m, decide(m, Thresholds()))
    assert d.verdict == "minimum"
    assert "done" not in str(d)
    assert any("how many directions are flat" in item for item in d.missing)


def test_maximum_and_higher_orders_and_kink():
    assert oc.diagnose(quadratic([-1, -2]), np.zeros(2)).verdict == "maximum"
    quartic = oc.Objective(lambda t: float(np.sum(t**4)), lambda t: 4 * t**3, theta0=np.ones(2))
    d = oc.diagnose(quartic, np.zeros(2))
    assert (d.verdict, d.confidence) == ("undetermined", 0.0)
    assert any("above the second" in item for item in d.missing)
    # The product claims negative curvature that the loss does not have.
    kink = oc.Objective(lambda t: t[0] ** 2 + abs(t[1]), lambda t: np.array([2 * t[0], 0.0]),
                        lambda t, v: np.array([2 * v[0], -v[1]]), theta0=np.ones(2))
    assert oc.curvature.classify(kink, np.zeros(2)).kind == "saddle"
    assert oc.diagnose(kink, np.zeros(2)).verdict == "undetermined"
    # The gradient claims a slope that the loss does not have.
    liar = oc.Objective(lambda t: 1.0, lambda t: np.ones(2), lambda t, v: v, theta0=np.ones(2))
    d = oc.diagnose(liar, np.ones(2))
    assert d.verdict == "undetermined"
    assert d.missing


def test_negative_curvature_alone_is_no_saddle():
    """Weights before a normalisation: the Hessian is indefinite, and plain steps still go down."""
    def loss(t):
        return (t[0] / np.hypot(t[0], t[1]) - 0.5) ** 2

    def grad(t):
        r = np.hypot(t[0], t[1])
        return 2 * (t[0] / r - 0.5) * np.array([t[1] ** 2, -t[0] * t[1]]) / r**3

    obj = oc.Objective(loss, grad, theta0=np.array([1.0, 0.5]))
    d = oc.diagnose(obj, obj.theta0)
    assert d.evidence["smallest eigenvalue"].value < 0
    assert d.verdict == "progressing"


@pytest.mark.parametrize("bad", ["loss", "gradient", "product"])
def test_diverged(bad):
    nan = np.full(2, np.nan)
    obj = oc.Objective(lambda t: np.nan if bad == "loss" else 1.0, lambda t: nan if bad == "gradient" else 0 * t,
                       lambda t, v: nan, theta0=np.ones(2))
    d = oc.diagnose(obj, np.ones(2), oc.optim.Adam(np.ones(2)))
    assert d.verdict == "diverged"
    assert bad in d.causes[0].reason
    assert "diverged" in str(d)


def test_large_problems_say_what_is_missing():
    values = np.random.default_rng(0).uniform(0, 1, 5000)
    few, many = (oc.diagnose(quadratic(values), np.zeros(5000), max_products=products) for products in (20, 300))
    assert few.verdict == "undetermined"
    assert any("max_products" in item for item in few.missing)
    assert many.verdict == "minimum"
    low, value = many.evidence["smallest eigenvalue"].low, many.evidence["smallest eigenvalue"].value
    assert low <= values.min() <= value


@pytest.mark.parametrize(("options", "threshold"), [
    ({}, 2), ({"momentum": 0.9}, 3.8), ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8),
    ({"momentum": 0.5, "dampening": 0.5}, 6)])
def test_sharpness_against_the_threshold_of_the_rule(options, threshold):
    """The threshold is where a quadratic run stops shrinking: checked by running it on both sides."""
    curvature = 2.0
    for factor in (0.98, 1.02):
        theta = np.ones(1)
        optimizer = oc.optim.SGD(theta, lr=factor * threshold / curvature, **options)
        d = oc.diagnose(quadratic([curvature]), theta, optimizer)
        assert d.evidence["sharpness"].value == pytest.approx(factor)
        assert (d.verdict == "lr_too_large") == ("lower lr" in d.remedy) == (factor > 1)
        for _ in range(400):
            optimizer.step(curvature * theta)
        assert (abs(theta[0]) > 1) == (factor > 1)


def test_the_optimizer_is_read_and_never_changed():
    theta = np.array([0.5, 0.5])
    optimizer = oc.optim.AdamW(theta, lr=lambda step: 0.1 / (step + 1))
    optimizer.step(np.ones(2))
    before, start = optimizer.state_dict(), theta.copy()
    d = oc.diagnose(network(), theta, optimizer, batch_size=1, history=[3.0, 2.0, 1.5])
    assert d.evidence["learning rate"].value == 0.05  # a schedule, at the next step
    assert d.evidence["recent fall of the loss"].value == 1.5
    # One step with gradient 1 leaves v_hat = 1, so P = 1: the Hessian's own largest eigenvalue counts, limit 38.
    largest = d.evidence["largest eigenvalue"].value
    assert d.evidence["sharpness"].value == pytest.approx(0.05 * largest / 38, rel=0.1)
    assert np.array_equal(theta, start)
    after = optimizer.state_dict()
    for name, value in before["state"][0].items():
        assert np.array_equal(value, after["state"][0][name])


def test_histories_of_every_form():
    from optcore.history import History

    history = History()
    assert "recent fall of the loss" not in oc.diagnose(network(), np.ones(2), history=history).evidence
    for loss in (3.0, 1.0):
        history.add_step(loss=loss, lr=0.1, grad_norm=1.0, examples=2)
    for form in (history, {"loss": [3.0, 1.0]}, (3, 1), np.array([3.0, 1.0])):
        assert oc.diagnose(network(), np.ones(2), history=form).evidence["recent fall of the loss"].value == 2.0


def test_the_noise_of_batches_is_missing():
    obj = oc.Objective(lambda t, batch=None: float(t @ t), lambda t, batch=None: 2 * t, theta0=np.ones(2), n_examples=8)
    assert any("mini-batches of 4" in item for item in oc.diagnose(obj, np.ones(2), batch_size=4).missing)
    assert not any("mini-batches" in item for item in oc.diagnose(obj, np.ones(2), batch_size=8).missing)


def test_the_report_of_a_saddle():
    obj, theta = network(), np.array([1e-4, 1e-4])
    obj.mode = "train"
    d = oc.diagnose(obj, theta, oc.optim.SGD(theta.copy(), lr=0.1))
    text = str(d)
    for piece in ("saddle (confidence", "smallest eigenvalue", "train statistics", "escape",
                  "learning rate"):
        assert piece in text
    # The gradient along (1, 1)/sqrt(2) is 2 r at distance r = 1.4e-4; each step multiplies it by 1.2.
    gained = d.evidence["gain along -curvature"].value
    assert gained > 0.9
    steps = int(d.remedy.rsplit(" ", 1)[1])
    run, taken = theta.copy(), 0
    while obj.loss(run) > 1 - gained:
        run -= 0.1 * obj.loss_and_grad(run)[1]
        taken += 1
    assert abs(steps - taken) <= 0.3 * taken  # the quadratic model holds for most of the way
    assert d.evidence["gradient norm"].low == d.evidence["gradient norm"].value


def test_a_decision_is_a_pure_function_of_measurements_and_thresholds():
    theta = np.array([0.03, 0.03])
    m, _ = measure(network(), theta, None, None, None, {})
    assert decide(m, Thresholds()) == decide(m, Thresholds())
    assert decide(m, Thresholds())[0].name == "saddle"
    assert decide(m, Thresholds(saddle=1e-6))[0].name == "progressing"
    assert decide(dataclasses.replace(m, gain_curvature=0.0), Thresholds())[0].name == "progressing"


@pytest.mark.parametrize(("arguments", "error", "match"), [
    ({"obj": 1}, TypeError, "obj"), ({"theta": np.ones(3)}, ValueError, "theta"),
    ({"optimizer": 3}, TypeError, "optimizer"), ({"batch_size": 0}, ValueError, "batch_size"),
    ({"batch_size": 1.5}, TypeError, "batch_size"), ({"history": 3}, TypeError, "history"),
    ({"thresholds": 3}, TypeError, "thresholds: expected Thresholds"),
    ({"history": "losses"}, TypeError, "history")])
def test_errors(arguments, error, match):
    with pytest.raises(error, match=match):
        oc.diagnose(**{"obj": network(), "theta": np.ones(2), **arguments})


def test_the_example_of_the_lecture(capsys):
    main = runpy.run_path(str(ROOT / "examples" / "two_parameter_network.py"))["main"]
    saddle, away, minimum = main()
    assert (saddle.kind, minimum.kind) == ("saddle", "minimum")
    np.testing.assert_allclose(saddle.eigenvalues, [-2, 2], atol=1e-12)
    np.testing.assert_allclose(np.abs(saddle.direction), np.sqrt(0.5), atol=1e-12)
    assert away.loss < 1
    np.testing.assert_allclose(minimum.eigenvalues, [0, 4], atol=1e-6)
    assert minimum.zero_share == 0.5
    text = capsys.readouterr().out
    for piece in ("a saddle", "the loss fell", "minimum (confidence", "flat"):
        assert piece in text


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_network_with_batch_norm(mode):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    net = oc.nn.Sequential(oc.nn.Linear(4, 6), oc.nn.BatchNorm(6), oc.nn.Tanh(), oc.nn.Linear(6, 3), dtype="float64")
    obj = oc.nn.objective(net, "cross_entropy", x, y, mode=mode)
    theta = net.theta.copy()
    d = oc.diagnose(obj, theta, oc.optim.SGD(theta, lr=0.1))
    assert d.verdict == "progressing"
    assert d.evidence["loss"].note == f"{mode} statistics"
    # Against the Hessian formed column by column: rounding only.
    dense = oc.curvature.Hessian(obj, theta) @ np.eye(theta.size)
    np.testing.assert_allclose([d.evidence[f"{end} eigenvalue"].value for end in ("smallest", "largest")],
                               np.linalg.eigvalsh((dense + dense.T) / 2)[[0, -1]], atol=1e-12)
    assert np.array_equal(theta, net.theta)
