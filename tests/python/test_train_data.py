"""What fit takes beside arrays: memory-mapped rows, class weights, accumulated gradients."""

import subprocess
import sys

import numpy as np
import pytest
from small_run import adamw, network, problem, quiet

import optcore as oc


def images(n=103):
    """Whole numbers of a byte, and their classes."""
    X = np.random.default_rng(0).integers(0, 256, (n, 6), dtype=np.uint8)
    return X, (X[:, 0] > X[:, 1]).astype(np.int64) + (X[:, 2] > 128)


@pytest.mark.parametrize("loss", ["cross_entropy", oc.nn.CrossEntropy()])
@pytest.mark.parametrize("validation", [None, 0.2])
def test_rows_train_to_the_bits_of_the_array(tmp_path, loss, validation):
    """Compiled and on the Python passes, through a checkpoint, with a held-out share."""
    X, y = images()
    np.save(tmp_path / "X.npy", X)
    scaler = oc.data.Standardizer().fit(X)
    rows = oc.data.Rows(np.load(tmp_path / "X.npy", mmap_mode="r"), scaler)
    whole, part, other = network(), network(), network(seed=4)
    expected = quiet(whole, scaler.transform(X, "float32"), y, loss=loss, validation=validation, optimizer=adamw(whole))
    quiet(part, rows, y, loss=loss, validation=validation, optimizer=adamw(part), epochs=2, checkpoint=tmp_path / "c")
    history = quiet(other, rows, y, loss=loss, validation=validation, optimizer=adamw(other), resume=tmp_path / "c")
    assert other.theta.tobytes() == whole.theta.tobytes()
    assert history.steps == expected.steps
    assert history.epochs.get("validation_loss") == expected.epochs.get("validation_loss")


def test_rows_are_checked():
    X, y = images()
    bad = X.astype("float32")
    bad[70, 3] = np.nan
    for x, error, message in ((oc.data.Rows(bad), ValueError, "X: expected finite values, got nan in example 70"),
                              (oc.data.Rows(X, dtype="float64"), TypeError, "X: expected dtype float32"),
                              (oc.data.Rows(X[:, :5]), ValueError, r"X: expected shape \[N, 6\]"),
                              (oc.data.Rows(X[:50]), ValueError, "y: expected 50")):
        with pytest.raises(error, match=f"^{message}"):
            quiet(network(), x, y)


LARGE = """
import resource, sys
import numpy as np
import optcore as oc
X = np.load(sys.argv[1], mmap_mode="r")
y = (np.arange(len(X)) % 2).astype("int64")
net = oc.nn.Sequential(oc.nn.Linear(X.shape[1], 4), oc.nn.Tanh(), oc.nn.Linear(4, 2))
used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (used + (192 << 20),) * 2)
if len(sys.argv) > 2:       # the copy that is not made
    try:
        np.array(X)
    except MemoryError:
        print("no room")
if X.dtype == np.uint8:
    kept, _ = oc.data.split(len(X), 0.1, np.random.default_rng(0))
    X = oc.data.Rows(X, oc.data.Standardizer(per_column=False).fit(X, kept))
history = oc.train.fit(net, X, y, epochs=1, batch_size=2000, validation=0.1, progress=False,
                       checkpoint=sys.argv[1] + ".c")
print(len(history.steps["loss"]), np.isfinite(history.epochs["validation_loss"]).all())
"""


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_larger_than_memory(tmp_path, dtype):
    """What is 314 MB in float32, holes but for some rows, in a process that may allocate 192 MB more."""
    path, n = tmp_path / "X.npy", 100_000
    X = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(n, 784))
    X[::1000] = np.random.default_rng(0).integers(0, 200, (n // 1000, 784))
    X.flush()
    del X
    copy = ["copy"] if dtype == "float32" else []
    run = subprocess.run([sys.executable, "-c", LARGE, str(path), *copy], capture_output=True, text=True)
    assert run.stdout.splitlines() == ["no room"] * len(copy) + ["45 True"], run.stderr


# --- class weights

def test_class_weights_are_the_loss_s():
    X, y = problem()
    rows = oc.data.split(103, 0.2, np.random.default_rng(np.random.SeedSequence(0).spawn(2)[1]), y)[0]
    weight = 82 / (3 * np.bincount(y[rows]))        # n/(K*count) of the training part
    ends = []
    for options in ({"class_weight": "balanced"}, {"class_weight": dict(enumerate(weight))},
                    {"loss": oc.nn.CrossEntropy(weight=weight)}):
        net = network()
        history = quiet(net, X, y, validation=0.2, **options)
        ends.append((net.theta.tobytes(), history.epochs["validation_loss"]))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize(("options", "message"), [
    ({"loss": "mse", "y": np.zeros((103, 3), "float32")}, "the cross-entropy of class indices, got MSE"),
    ({"y": np.eye(3, dtype="float32")[problem()[1]]}, "targets with 2 dimensions"),
    ({"loss": oc.nn.CrossEntropy(weight=[1, 2, 3])}, "a loss without weights"),
    ({"class_weight": "equal"}, "expected 'balanced'")])
def test_class_weights_that_do_not_fit(options, message):
    X, y = problem()
    with pytest.raises(ValueError, match=f"^class_weight: .*{message}"):
        quiet(network(), X, **{"y": y, "class_weight": "balanced", **options})


@pytest.mark.parametrize("options", [{"class_weight": {0: 0, 1: 2}},
                                     {"loss": oc.nn.CrossEntropy(weight=[0, 2, 1], label_smoothing=0.1)}])
def test_a_class_of_weight_0_is_left_out(options):
    """Batches of two hold classes of weight 0 only, often: the run is that on the other examples."""
    X, y = problem()
    nets, smooth = [network(), network()], options.get("loss", oc.nn.CrossEntropy()).label_smoothing
    quiet(nets[0], X, y, batch_size=2, **options)
    quiet(nets[1], X[y > 0], y[y > 0], batch_size=2, loss=oc.nn.CrossEntropy(smooth, [0, 2, 1]))
    assert nets[0].theta.tobytes() == nets[1].theta.tobytes()


def test_classes_of_weight_0_only():
    """The mean over them is undefined; who hands them over hears it."""
    X, y = problem()
    loss, net, none = oc.nn.CrossEntropy(weight=[0, 1, 1]), network(), np.zeros_like(y)
    nothing, before = "got weight 0 for all of them", net.buffers["1.running_mean"].copy()
    for call in (lambda: net.loss_and_grad(X, none, loss, np.empty_like(net.theta)),
                 lambda: net.loss_and_grad(X, y, loss, np.empty_like(net.theta), sample_weight=1.0 * (y == 0)),
                 lambda: oc.nn.objective(net, loss, X, none), lambda: oc.train.evaluate(net, X, none, loss)):
        with pytest.raises(ValueError, match=f"^(target|sample_weight): .*{nothing}"):
            call()
    with pytest.raises(ValueError, match=f"^y: .*{nothing}"):
        quiet(net, X, none, loss=loss)
    with pytest.raises(ValueError, match=f"^validation y: .*{nothing}"):
        quiet(net, X, y, loss=loss, validation=(X, none))
    assert (net.buffers["1.running_mean"] == before).all()


# --- accumulated gradients

def test_accumulated_gradients_are_those_of_a_larger_batch():
    """Four batches of 8 are one of 32 where nothing looks at a whole batch, up to the rounding of sums in double."""
    X, y = problem(96, dtype="float64")
    nn, ends = oc.nn, []
    for size, every in ((32, 1), (8, 4)):
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), dtype="float64")
        sgd = oc.optim.SGD(net.theta, lr=0.1, momentum=0.9)
        quiet(net, X, y, batch_size=size, optimizer=oc.optim.MultiSteps(sgd, every) if every > 1 else sgd, seed=3)
        ends.append(net.theta)
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-13)
