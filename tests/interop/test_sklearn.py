"""The estimators: scikit-learn's own checks, and scikit-learn's own perceptrons from the same start, step by step."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import neural_network as peer
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import optcore as oc
from optcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
N = 60
# scikit-learn adds Adam's epsilon before the bias correction of the denominator, the library, as PyTorch, after it.
TINY = 1e-30
PROBLEMS = {
    "binary": (MLPClassifier, peer.MLPClassifier, make_classification(N, 5, random_state=0)),
    "multiclass": (MLPClassifier, peer.MLPClassifier,
                   make_classification(N, 6, n_informative=5, n_redundant=0, n_classes=4, random_state=1)),
    "multilabel": (MLPClassifier, peer.MLPClassifier, make_multilabel_classification(N, 5, n_classes=3,
                                                                                       random_state=2)),
    "regression": (MLPRegressor, peer.MLPRegressor, make_regression(N, 5, random_state=3)),
    "outputs": (MLPRegressor, peer.MLPRegressor, make_regression(N, 5, n_targets=3, random_state=4)),
}


def problem(name):
    ours, theirs, (X, y) = PROBLEMS[name]
    return ours, theirs, StandardScaler().fit_transform(X), y / 50 if "M" not in name and y.dtype.kind == "f" else y


def both(name, weight=None, **options):
    """Ours and theirs, trained alike: full batches, so that the order of the examples does not matter."""
    ours, theirs, X, y = problem(name)
    options = {"hidden_layer_sizes": (7, 4), "activation": "tanh", "max_iter": 15, "random_state": 5, "batch_size": N,
               "alpha": 0.3, "epsilon": TINY, **options}
    return ours(dtype="float64", **options).fit(X, y, weight), theirs(**options).fit(X, y, weight), X, y


def assert_same(ours, theirs, rtol=1e-9):
    """Two orders of the same sums, over some steps that amplify rounding."""
    for a, b in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


# ------------------------------------------------------------------------------------------------ scikit-learn's checks

@pytest.mark.parametrize("estimator", [
    MLPClassifier(), MLPRegressor(), MLPClassifier(solver="sgd", dtype=None),
    MLPRegressor(dtype="float64", activation="gelu"),
    MLPClassifier(solver="adamw", clip_norm=1.0, early_stopping=False),
], ids=lambda e: str(e).replace("\n", ""))
def test_check_estimator(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_skip=None)
    assert len(results) > 50
    # What does not concern an estimator without these: a decision function, arrays other than NumPy's.
    without = {"check_array_api_input", "check_classifiers_multilabel_output_format_decision_function"}
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= without


# -------------------------------------------------------------------------------------------- beside scikit-learn's own

@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_steps_of_scikit_learn(name, weighted, solver):
    weight = np.random.default_rng(6).integers(1, 4, N).astype(float) if weighted else None
    ours, theirs, X, _ = both(name, weight, solver=solver, learning_rate_init=0.01)
    assert_same(ours, theirs)
    assert (ours.n_iter_, ours.t_, ours.out_activation_) == (theirs.n_iter_, theirs.t_, theirs.out_activation_)
    assert (ours.n_layers_, ours.n_outputs_) == (theirs.n_layers_, theirs.n_outputs_)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-8, atol=1e-8)
    if name != "outputs":       # scikit-learn divides the value by the number of outputs, not the gradient
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)     # penalty included
    if hasattr(ours, "predict_proba"):
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-8)
        np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression"])
def test_penalty_of_a_batch(name):
    """Both divide alpha by the examples of the batch, here a third of all, in the order given."""
    ours, theirs, _, _ = both(name, solver="sgd", learning_rate_init=0.01, alpha=3.0, batch_size=N // 3, shuffle=False)
    assert_same(ours, theirs)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), 3, [5, 4, 3]])
def test_activations_and_depths(activation, hidden):
    ours, theirs, _, _ = both("multiclass", activation=activation, hidden_layer_sizes=hidden)
    assert_same(ours, theirs)


@pytest.mark.parametrize("options", [
    {"learning_rate": "invscaling", "momentum": 0.0}, {"learning_rate": "adaptive", "momentum": 0.0, "max_iter": 60,
                                                       "tol": 0.05, "n_iter_no_change": 2},
    {"momentum": 0.5, "nesterovs_momentum": False}, {"shuffle": False, "tol": 1.0, "n_iter_no_change": 3},
], ids=repr)
def test_rates_and_stopping(options):
    ours, theirs, _, _ = both("binary", solver="sgd", learning_rate_init=0.1, alpha=0.0, **options)
    assert_same(ours, theirs)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_)


@pytest.mark.parametrize("name", PROBLEMS)
def test_early_stopping(name):
    ours, theirs, _, _ = both(name, early_stopping=True, validation_fraction=0.2, batch_size=48, max_iter=40,
                              n_iter_no_change=4, learning_rate_init=0.05)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-7, atol=1e-9)
    assert ours.best_loss_ is None
    assert_same(ours, theirs, 1e-8)


def test_the_same_parameters_give_the_same_loss_and_probabilities():
    """Parameters moved from one to the other through the views."""
    ours, theirs, X, y = both("multiclass")
    theirs.fit(X, y[::-1])
    for mine, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        mine[...] = other
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-13)
    loss = oc.nn.objective(ours.network_, "cross_entropy", X, y).loss(ours.network_.theta)
    assert loss == pytest.approx(-np.log(theirs.predict_proba(X)[np.arange(N), y]).mean(), rel=1e-13)


@pytest.mark.parametrize("name", PROBLEMS)
def test_partial_fit(name):
    ours, theirs, X, y = problem(name)
    options = {"hidden_layer_sizes": 6, "random_state": 1, "batch_size": N, "dtype": "float64", "epsilon": TINY}
    mine = ours(**options)
    other = theirs(**{k: v for k, v in options.items() if k != "dtype"})
    first = {} if ours is MLPRegressor else {"classes": np.arange(3) if name == "multilabel" else np.unique(y)}
    for _ in range(4):
        mine.partial_fit(X, y, **first)
        other.partial_fit(X, y, **first)
        mine = pickle.loads(pickle.dumps(mine))       # Adam's state goes with it
        first = {}
    assert_same(mine, other)
    assert (mine.n_iter_, mine.t_, len(mine.loss_curve_)) == (1, 4 * N, 4)


def test_warm_start():
    ours, theirs, X, y = problem("multiclass")
    options = {"random_state": 0, "warm_start": True, "max_iter": 3, "batch_size": N, "epsilon": TINY}
    mine, other = ours(**options).fit(X, y).fit(X, y), theirs(**options).fit(X, y).fit(X, y)
    assert_same(mine, other)
    assert len(mine.loss_curve_) == 6
    with pytest.raises(ValueError, match="same classes as in the previous call"):
        mine.fit(X, np.where(y == 0, 9, y))
    with pytest.raises(ValueError, match="expected the network of the fit before"):
        mine.set_params(hidden_layer_sizes=3).fit(X, y)


def test_the_accuracy_of_scikit_learn():
    """Mini-batches in float32: other orders, the same distribution of accuracies."""
    X, y = load_digits(return_X_y=True)
    X, train, test = X / 16, slice(0, 1200), slice(1200, None)
    scores = {make: [make(random_state=i, max_iter=30).fit(X[train], y[train]).score(X[test], y[test])
                     for i in range(4)] for make in (MLPClassifier, peer.MLPClassifier)}
    means, spreads = zip(*((np.mean(s), np.std(s, ddof=1)) for s in scores.values()), strict=True)
    # The standard error of a difference of two means of four, times four; a test of 600 digits resolves 1/600.
    assert abs(means[0] - means[1]) <= 4 * np.hypot(*spreads) / 2 + 1 / 600


# ----------------------------------------------------------------------------------------------------------- weights

def test_weights_are_copies():
    ours, _, X, y = problem("multiclass")
    weight = np.random.default_rng(0).integers(0, 3, N)
    options = {"random_state": 0, "max_iter": 30, "shuffle": False}
    weighted = ours(**options).fit(X, y, weight)
    repeated = ours(**options).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    with pytest.warns(UserWarning, match="batch_size"):
        ours(batch_size=N + 1, max_iter=1).fit(X, y)
    assert_same(weighted, repeated)


def test_class_weight():
    ours, _, X, y = problem("multiclass")
    options = {"random_state": 0, "max_iter": 5}
    weight = {0: 1.0, 1: 2.0, 2: 0.5, 3: 3.0}
    a = ours(**options, class_weight=weight).fit(X, y)
    assert_same(a, ours(**options).fit(X, y, np.array([weight[c] for c in y])), 1e-13)
    balanced = ours(**options, class_weight="balanced").fit(X, y)
    assert_same(balanced, ours(**options).fit(X, y, N / (4 * np.bincount(y))[y]), 1e-13)
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        balanced.partial_fit(X, y)


# ------------------------------------------------------------------------------------------- in scikit-learn's world

def test_pipeline_grid_search_and_cross_validation():
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(random_state=0, max_iter=40))
    assert cross_val_score(pipeline, X[:600], y[:600], cv=3).min() > 0.8
    grid = GridSearchCV(pipeline, {"mlpclassifier__hidden_layer_sizes": [(20,), (40,)]}, n_jobs=2, cv=2)
    grid.fit(X[:600], y[:600])
    assert grid.best_score_ > 0.5       # of ten classes, from 300 examples in an order that is no mixture
    serial = clone(grid).set_params(n_jobs=1).fit(X[:600], y[:600])
    np.testing.assert_array_equal(grid.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"])


def threads_here(_):
    return oc.get_num_threads()


def test_workers_share_the_machine(monkeypatch):
    """loky sets OMP_NUM_THREADS in its workers to the cores divided by the workers, where the host has not set it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = joblib.cpu_count()
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_here)(i) for i in range(2))
    assert set(found) == {max(1, cores // 2)}


def test_data_frames_and_strings():
    X, y = load_digits(return_X_y=True, as_frame=True)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    clf = MLPClassifier(random_state=0, max_iter=40).fit(X[:500] / 16, names[y[:500]])
    np.testing.assert_array_equal(clf.feature_names_in_, X.columns)
    np.testing.assert_array_equal(clf.classes_, sorted(names))
    assert clf.score(X[500:900] / 16, names[y[500:900]]) > 0.8
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(X.rename(columns={"pixel_0_0": "other"}))
    reg = MLPRegressor(max_iter=2).fit(X[:100], pd.DataFrame({"a": y[:100], "b": -y[:100]}))
    assert reg.predict(X[:3]).shape == (3, 2)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "csr_array"])
def test_sparse_is_dense(kind):
    X, y = load_digits(return_X_y=True)
    X = X[:300]
    sparse, options = getattr(scipy.sparse, kind)(X), {"random_state": 0, "max_iter": 3}
    a, b = MLPClassifier(**options).fit(sparse, y[:300]), MLPClassifier(**options).fit(X, y[:300])
    np.testing.assert_array_equal(a.predict_proba(sparse), b.predict_proba(X))
    tall = getattr(scipy.sparse, kind)(np.tile(X, (20, 1)))
    np.testing.assert_array_equal(a.predict(tall), np.tile(b.predict(X), 20))


# --------------------------------------------------------------------------------------------------- the library's own

@pytest.mark.parametrize("solver", sorted(set(oc.optim.names()) - {"muon"}))
def test_every_rule(solver):
    _, _, X, y = problem("multiclass")
    clf = MLPClassifier(10, solver=solver, max_iter=5, random_state=0, learning_rate_init=0.01, alpha=0.1).fit(X, y)
    start = clf.network_.theta.copy()
    clf.partial_fit(X, y)
    assert np.isfinite(clf.loss_curve_).all()
    assert (clf.network_.theta != start).any()


def test_a_rule_of_ones_own_and_a_schedule():
    _, _, X, y = problem("binary")
    with pytest.raises(ValueError, match="expected a matrix, which is what Muon orthogonalises"):
        MLPClassifier(solver="muon").fit(X, y)
    clf = MLPClassifier(10, solver=lambda net: oc.optim.Muon([w for w in net.parameters.values() if w.ndim == 2]))
    assert clf.fit(X, y).loss_curve_[-1] < clf.loss_curve_[0]
    schedule = oc.schedules.cosine_decay(0.05, 30)
    clf = MLPClassifier(10, solver=lambda net: oc.optim.Lion(net.theta, lr=1e-3), max_iter=30).fit(X, y)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    clf = MLPClassifier(10, schedule=schedule, max_iter=30, batch_norm=True, clip_norm=0.1, batch_size=20).fit(X, y)
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]
    assert any("running_mean" in name for name in clf.network_.buffers)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf.set_params(schedule=None))).predict_proba(X),
                                  clf.predict_proba(X))


@pytest.mark.parametrize("dtype", ["float32", "float64", None, "auto"])
def test_dtypes(dtype):
    X, y = load_digits(return_X_y=True)
    for kind in ("float32", "float64"):
        clf = MLPClassifier(5, dtype=dtype, max_iter=1).fit(X.astype(kind), y)
        assert clf.predict_proba(X.astype(kind)).dtype == kind
        assert clf.coefs_[0].dtype == {"auto": "float32", None: kind}.get(dtype, dtype)


def test_bits_for_any_number_of_threads():
    X, y = load_digits(return_X_y=True)
    thetas = {MLPClassifier(300, n_jobs=n, max_iter=2, random_state=0).fit(X, y).network_.theta.tobytes()
              for n in (1, 2, 3)}
    assert len(thetas) == 1


def test_views_copies_and_what_is_not_there_before_fit():
    _, _, X, y = problem("binary")
    clf = MLPClassifier(4, max_iter=2)
    assert not hasattr(clf, "coefs_")
    clf.fit(X, y)
    other = copy.deepcopy(clf)
    clf.coefs_[0][...] = 0
    assert not clf.network_.parameters["0.weight"].any()
    assert other.coefs_[0].any()
    assert len(pickle.dumps(clf)) < 20_000


def test_an_input_that_overflows():
    with pytest.raises(ValueError, match=r"non-finite|finite"):
        MLPRegressor(solver="sgd", learning_rate_init=1e6, max_iter=50, dtype="float64").fit(
            np.full((10, 2), 1e8), np.arange(10.0))


def test_verbose_says_what_scikit_learn_says(capsys):
    both("binary", verbose=True, solver="sgd", alpha=0.0, momentum=0.0, learning_rate="adaptive", tol=0.1,
         n_iter_no_change=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:len(lines) // 2] == lines[len(lines) // 2:]
    assert any("Setting learning rate to" in line for line in lines)


def test_a_run_that_did_not_end_says_so():
    _, _, X, y = problem("binary")
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2).fit(X, y)


@pytest.mark.parametrize(("options", "message"), [
    ({"solver": "lbfgs"}, "solver: 'lbfgs' is not supported"),
    ({"schedule": oc.schedules.cosine_decay(0.1, 5), "learning_rate": "adaptive"}, "schedule: expected learning_rate"),
    ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be > 0"),
    ({"dtype": "int8"}, "The 'dtype' parameter"),
    ({"clip_norm": 0.0}, "The 'clip_norm' parameter"),
    ({"early_stopping": True, "validation_fraction": 0.01}, "validation set is too small|test_size"),
])
def test_bad_options(options, message):
    _, _, X, y = problem("binary")
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**options).fit(X, y)


def test_a_function_that_returns_no_optimizer():
    _, _, X, y = problem("binary")
    with pytest.raises(TypeError, match="solver: expected a function that returns an optimizer"):
        MLPClassifier(solver=lambda net: 3).fit(X, y)
