"""Training: mini-batches through a network and an update rule; history, checkpoints, exact resume."""

import contextlib
import math
import numbers
import os
import re
import signal
import threading
import time
import zlib

import numpy as np

from optcore import checkpoint as _checkpoint
from optcore import data, optim
from optcore import progress as _progress
from optcore.history import History
from optcore.nn import Sequential, losses, passes
from optcore.process import one_pool

__all__ = ["History", "fit"]


def fit(net, X, y, loss="cross_entropy", optimizer=None, epochs=10, batch_size=32, shuffle=True,
        validation=None, seed=0, progress=True, callbacks=(), checkpoint=None, resume=None,
        *, checkpoint_every=1):
    """Train a network in place.

    Parameters
    ----------
    net : optcore.nn.Sequential
        Its ``theta`` and buffers are what is trained.
    X : ndarray [N, ...]
        Examples in the network's dtype, C-contiguous.
    y : ndarray
        For "cross_entropy" int64 class indices [N] or probabilities [N, K]; for "mse" values of the outputs'
        shape and dtype.
    loss : {"cross_entropy", "mse"}
        Mean over the batch.
    optimizer : optcore.optim.Optimizer, str or None
        A rule over ``net.theta`` or over views of it (``net.parameters``; what is left out stays as it is), a
        rule's name (over ``net.theta``, a layerwise rule over ``net.parameters``), or None for
        ``AdamW(net.theta)``. Its ``lr`` may be a schedule of the step.
    epochs : int
        Passes over the data, those of the run that is resumed included.
    batch_size : int or None
        Examples in a step; None is the full batch. A last batch that is shorter is used too; where a network
        normalises over the batch, a last batch of one example, which has no variance, joins the one before it.
    shuffle : bool
        A new order in each epoch.
    validation : (ndarray, ndarray) or float, optional
        Examples and targets to evaluate after each epoch, or the share of X to hold out for it (at random,
        every class in the same proportion). An optimizer that has methods ``eval`` and ``train``, as
        schedule-free rules do, has them called before and after it.
    seed : int
        Of the held-out part and the order of the examples. The start of the network has its own.
    progress : bool
        Show the run on standard error.
    callbacks : sequence of callables
        Each is called as ``callback(run)`` after an epoch; one with a method ``on_step`` has that called as
        ``on_step(run)`` after a step. ``run`` has ``net``, ``optimizer``, ``history``, and ``epoch`` and
        ``step``, the numbers of finished ones. A true value returned ends the training there.
    checkpoint : str or path, optional
        File to save the run to, atomically, every `checkpoint_every` epochs and at the end.
    resume : str or path, optional
        File of a run to continue, on the same data with the same network, rule and settings as at its start:
        parameters, buffers, optimizer state and history end with the bits of a run that was never interrupted.
    checkpoint_every : int
        Epochs.

    Returns
    -------
    History
        Ctrl-C ends the run after the step in progress, with what was learned: ``history.interrupted`` is True
        and the checkpoint, if asked for, is that of this step. A second Ctrl-C interrupts at once.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit; nothing has been changed.
    FloatingPointError
        A loss or gradient that is not finite, unless the optimizer says ``nonfinite="skip"``: parameters,
        buffers and optimizer state are those before that step; the exception's ``history`` is the run so far.

    Notes
    -----
    The same arguments give the same bits for any number of threads.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 2), dtype="float32")
    >>> y = (X[:, 0] * X[:, 1] > 0).astype("int64")
    >>> net = oc.nn.Sequential(oc.nn.Linear(2, 16), oc.nn.Tanh(), oc.nn.Linear(16, 2))
    >>> opt = oc.optim.AdamW(net.theta, lr=0.01)
    >>> history = oc.train.fit(net, X, y, optimizer=opt, epochs=100, progress=False)
    >>> history.epochs["loss"][-1] < 0.2
    True
    """
    epochs, every = _positive("epochs", epochs), _positive("checkpoint_every", checkpoint_every)
    if not isinstance(net, Sequential):
        raise TypeError(f"net: expected an optcore.nn.Sequential, got {type(net).__name__}")
    X, y, held_out = _examples(net, X, y, loss, validation, seed)
    run = _Run(net, X, y, held_out, loss, optimizer, batch_size, shuffle, seed)
    after_step, after_epoch = _callbacks(callbacks)
    if checkpoint is not None:
        _check_place(checkpoint)
    if resume is not None:
        run.restore(load_state(resume), os.fspath(resume))
    display = _progress.show(epochs, run.epoch) if progress else None
    # What overflows is found by the optimizer's check; NumPy's warnings would only say it twice.
    quiet = np.errstate(over="ignore", invalid="ignore")
    with one_pool, quiet, run.strict(), _Interrupt() as interrupt, _closing(display):
        while run.epoch < epochs and not interrupt.seen and not run.stopped:
            for _ in run.steps():
                run.stopped = _call(after_step, run)
                if display:
                    display.update(run.epoch, run.numbers())
                if interrupt.seen or run.stopped:
                    break
            if run.batch < run.batches_per_epoch:
                break
            run.finish_epoch()
            run.stopped |= _call(after_epoch, run)
            if display:
                display.update(run.epoch, run.numbers())
            if checkpoint is not None and run.epoch % every == 0 and run.epoch < epochs:
                _checkpoint.save(checkpoint, run.state())
        run.history.interrupted = interrupt.seen
        if checkpoint is not None:
            _checkpoint.save(checkpoint, run.state())
    return run.history


class _Run:
    """The state of a training run: everything that a checkpoint holds."""

    def __init__(self, net, X, y, held_out, loss, optimizer, batch_size, shuffle, seed):
        self.net, self.X, self.y, self.held_out, self.loss = net, X, y, held_out, loss
        self.batch_size = len(X) if batch_size is None else min(_positive("batch_size", batch_size), len(X))
        self.batches_per_epoch = steps_per_epoch(net, len(X), self.batch_size)
        self.smallest = _smallest_batch(net)
        self.shuffle, self.seed = bool(shuffle), seed
        self.rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[0])
        self.optimizer = _optimizer(optimizer, net)
        self.grad = np.zeros_like(net.theta)
        self.grads = _gradient_views(self.optimizer, net.theta, self.grad)
        self.rule = _options(self.optimizer, self.grads, self.grad)     # as it is now: a callback may change it
        self.taken = self.optimizer.steps        # what its schedules count
        self.rng_before = self.rng.bit_generator.state          # before the order of this epoch was drawn
        self.epoch = self.batch = self.step = 0
        self.seconds = 0.0
        self.stopped = False
        self.history = History(validation=held_out is not None, accuracy=_has_classes(loss))
        largest = self.batch_size + self.smallest - 1
        self._x = np.empty((largest, *X.shape[1:]), X.dtype)
        self._y = np.empty((largest, *y.shape[1:]), y.dtype)

    @contextlib.contextmanager
    def strict(self):
        """Have the optimizer refuse gradients that are not finite; the check also gives their norm."""
        before = self.optimizer.nonfinite
        if before == "propagate":
            self.optimizer.nonfinite = "raise"
        try:
            yield
        finally:
            self.optimizer.nonfinite = before

    def steps(self):
        """Yield after each step of what is left of this epoch."""
        self.rng_before = self.rng.bit_generator.state
        order = data.batches(len(self.X), self.batch_size, self.shuffle, self.rng, smallest=self.smallest)
        for i, index in enumerate(order):
            if i >= self.batch:
                start = time.perf_counter()
                self.one_step(index)
                self.seconds += time.perf_counter() - start
                yield

    def one_step(self, index):
        """One batch: gradient, update, a row of the history. All or nothing."""
        x, target = self.X, self.y
        if len(index) < len(self.X):
            # mode="clip" writes into `out` directly; the default goes through a buffer
            x = np.take(self.X, index, axis=0, out=self._x[:len(index)], mode="clip")
            target = np.take(self.y, index, axis=0, out=self._y[:len(index)], mode="clip")
        buffers = {name: b.copy() for name, b in self.net.buffers.items()}
        group = self.optimizer.param_groups[0]
        lr = float(group["lr"](self.taken) if callable(group["lr"]) else group["lr"])
        skipped = self.optimizer.skipped_steps
        try:
            value = self.net.loss_and_grad(x, target, loss=self.loss, grad=self.grad)
            if not math.isfinite(value) and self.optimizer.nonfinite == "raise":
                raise FloatingPointError(f"loss: expected a finite value, got {value}; nothing was changed")
            self.optimizer.step(self.grads)
        except FloatingPointError as error:
            self.put_back(buffers)
            raised = FloatingPointError(f"step {self.step} (epoch {self.epoch + 1}, lr {lr:g}): {error}. "
                                        f"A smaller lr, a warm-up or clip_norm may help")
            raised.history = self.history
            raise raised from error
        if self.optimizer.skipped_steps > skipped:
            self.put_back(buffers)
        else:
            self.taken += 1
        self.step += 1
        self.batch += 1
        norm = self.optimizer.last_grad_norm
        self.history.add_step(loss=float(value), lr=lr, grad_norm=float(norm), examples=len(index))

    def put_back(self, buffers):
        for name, b in self.net.buffers.items():
            b[...] = buffers[name]

    def finish_epoch(self):
        """Close the epoch: evaluate, and add a row to the history."""
        start = time.perf_counter()
        row = {}
        if self.held_out is not None:
            with _evaluating(self.optimizer):
                row = evaluate(self.net, *self.held_out, self.loss)
        self.seconds += time.perf_counter() - start
        self.history.add_epoch(self.batches_per_epoch, seconds=self.seconds, **row)
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0

    def numbers(self):
        """What a display shows: the last step's loss, and the last epoch's numbers."""
        epochs, shown = self.history.epochs, {}
        shown["loss"] = epochs["loss"][-1] if self.batch == 0 else self.history.steps["loss"][-1]
        for name, label in (("validation_loss", "validation"), ("validation_accuracy", "accuracy")):
            if epochs.get(name):
                shown[label] = epochs[name][-1]
        shown["lr"] = self.history.steps["lr"][-1]
        return shown

    # -------------------------------------------------------------------------------------- save, restore

    def settings(self):
        """What must be the same when the run is resumed."""
        return {
            "parameters": self.net.theta.size, "dtype": self.net.theta.dtype.name, "loss": str(self.loss),
            "optimizer": type(self.optimizer).__name__, "examples": len(self.X), "batch_size": self.batch_size,
            "shuffle": self.shuffle, "seed": self.seed, "data": fingerprint(self.X, self.y),
            "validation": fingerprint(*self.held_out) if self.held_out else None,
            **_layers(self.net.program), **self.rule,
        }

    def state(self):
        """Everything, as `optcore.checkpoint` takes it."""
        return {
            "settings": self.settings(), "theta": self.net.theta, "buffers": dict(self.net.buffers),
            "optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "batch": self.batch, "step": self.step,
            "rng": self.rng_before if self.batch else self.rng.bit_generator.state, "seconds": self.seconds,
            "history": self.history.state_dict(),
        }

    def restore(self, state, path):
        """Take over a saved state, as `load_state` returned it, or raise with nothing changed."""
        saved, here = state["settings"], self.settings()
        differ = [f"{k} {saved.get(k)!r} there, {here.get(k)!r} here"
                  for k in {**here, **saved} if saved.get(k) != here.get(k)]
        if differ:
            raise ValueError(f"resume: expected the run of {path}, got another one: {'; '.join(differ)}")
        check_fit(state, self.net, path)
        if not state["batch"] < self.batches_per_epoch:
            raise ValueError(f"resume: {path}: expected a batch below {self.batches_per_epoch}, got {state['batch']}")
        rng = np.random.default_rng()
        try:
            rng.bit_generator.state = state["rng"]
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"resume: {path}: not a state of the random generator ({error})") from error
        history = History.from_state_dict(state["history"])
        self.optimizer.load_state_dict(state["optimizer"])      # checks for itself; nothing after it can fail
        self.net.theta[...] = state["theta"]
        self.put_back(state["buffers"])
        self.taken = self.optimizer.steps
        self.rng, self.history = rng, history
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.seconds = state["seconds"]


def load_state(path):
    """Read the checkpoint of a training run; a ValueError says where it is something else."""
    state = _checkpoint.load(path)
    kinds = {"settings": dict, "theta": np.ndarray, "buffers": dict, "optimizer": dict, "epoch": int, "batch": int,
             "step": int, "rng": dict, "seconds": float, "history": dict}
    keys = state if isinstance(state, dict) else {}
    wrong = [k for k, kind in kinds.items() if not isinstance(keys.get(k), kind)]
    wrong += [k for k in ("epoch", "batch", "step") if k not in wrong and keys[k] < 0]
    if "history" not in wrong and not _is_history(keys["history"], keys.get("epoch"), keys.get("step")):
        wrong.append("history")
    if wrong:
        raise ValueError(f"{os.fspath(path)} is not the checkpoint of a training run: without a valid "
                         f"{', '.join(wrong)}")
    return state


def _is_history(state, epochs, steps):
    """Whether these are the tables that `History.state_dict` returns for so many epochs and steps."""
    if not isinstance(state.get("interrupted"), bool):
        return False
    for name, rows in (("epochs", epochs), ("steps", steps)):
        table = state.get(name)
        if not isinstance(table, dict) or not set(getattr(History(), name)) <= set(table):
            return False
        if any(not isinstance(a, np.ndarray) or a.shape != (rows,) for a in table.values()):
            return False
    return True


def check_fit(state, net, path):
    """Raise a ValueError unless parameters and buffers of a saved state are those of this network."""
    def kinds(theta, buffers):
        return {k: f"{getattr(a, 'dtype', type(a).__name__)} {list(np.shape(a))}"
                for k, a in {"theta": theta, **buffers}.items()}

    there, here = kinds(state["theta"], state["buffers"]), kinds(net.theta, net.buffers)
    if there != here:
        raise ValueError(f"{path}: expected the arrays of this network, {here}, got {there}")


def arrays_for(rule, net):
    """Return what a rule by name updates: the flat vector of a network, or its arrays.

    Parameters
    ----------
    rule : type
        A class of ``optcore.optim``.
    net : optcore.nn.Sequential

    Returns
    -------
    ndarray or dict
        ``net.theta``; ``net.parameters`` for a layerwise rule, to which the flat vector would be one layer.
    """
    return net.parameters if rule.rule.layerwise else net.theta


def steps_per_epoch(net, n, batch_size):
    """Return how many steps `fit` takes in an epoch.

    Parameters
    ----------
    net : optcore.nn.Sequential
    n : int
        Number of examples.
    batch_size : int

    Returns
    -------
    int

    Raises
    ------
    ValueError
        The network normalises over the batch, and there are fewer than two examples in one.
    """
    smallest = _smallest_batch(net)
    for name, value, what in (("X", n, "examples"), ("batch_size", batch_size, "examples in a batch")):
        if value < smallest:
            raise ValueError(f"{name}: expected at least {smallest} {what} for a network that normalises over the "
                             f"batch, got {value}")
    return sum(1 for _ in data.batches(n, batch_size, shuffle=False, smallest=smallest))


def _smallest_batch(net):
    """2 where a batch norm sees one value of each channel for each example: one has no variance."""
    alone = any(op.name == "batch_norm" and math.prod(op.in_shape[1:]) < 2 for op in net.program.ops)
    return 2 if alone else 1


@contextlib.contextmanager
def _evaluating(optimizer):
    """Have a rule that evaluates at other parameters than it trains move there and back."""
    switches = hasattr(optimizer, "eval") and hasattr(optimizer, "train")
    if switches:
        optimizer.eval()
    try:
        yield
    finally:
        if switches:
            optimizer.train()


def evaluate(net, X, y, loss="cross_entropy"):
    """Return loss and accuracy in evaluation mode.

    Parameters
    ----------
    net : optcore.nn.Sequential
    X, y : ndarray
        As for `fit`.
    loss : str

    Returns
    -------
    dict
        ``validation_loss``; for a classification also ``validation_accuracy``, the share of examples whose
        largest output is the (most probable) class.
    """
    out = net.predict(X)
    result = {"validation_loss": float(losses.find(loss).value(out, y)[0])}
    if _has_classes(loss):
        classes = y if y.ndim == 1 else y.argmax(axis=1)
        result["validation_accuracy"] = float(np.mean(out.argmax(axis=1) == classes))
    return result


class _Interrupt:
    """Turns the first Ctrl-C into a flag where it would raise KeyboardInterrupt; the second raises."""

    def __init__(self):
        self.seen = False
        self.before = None

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.before = signal.signal(signal.SIGINT, self.handle)
        return self

    def handle(self, *_):
        self.seen = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exc):
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


@contextlib.contextmanager
def _closing(display):
    try:
        yield
    finally:
        if display:
            display.close()


def _examples(net, X, y, loss, validation, seed):
    """Check the data; return X, y and the held-out part or None."""
    row = losses.find(loss)
    _check(net, row, "", X, y)
    if validation is None:
        return X, y, None
    if isinstance(validation, numbers.Real) and not isinstance(validation, bool):
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
        labels = y if y.ndim == 1 and y.dtype.kind == "i" else None
        kept, held = data.split(len(X), validation, rng, labels)
        return X[kept], y[kept], (X[held], y[held])
    if not isinstance(validation, list | tuple) or len(validation) != 2:
        raise TypeError(f"validation: expected (X, y), a share or None, got {type(validation).__name__}")
    _check(net, row, "validation ", *validation)
    return X, y, tuple(validation)


def _check(net, row, part, X, y):
    try:
        passes.check_input(net.program, X, net.theta.dtype)
        losses.check(row, y, len(X), net.program.out_shape, net.theta.dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}{str(error).replace('x:', 'X:', 1).replace('target:', 'y:', 1)}") from error
    if not np.isfinite(X).all():
        raise ValueError(f"{part}X: expected finite values, got {X[~np.isfinite(X)].flat[0]}")


def _optimizer(optimizer, net):
    if optimizer is None:
        optimizer = "adamw"
    if isinstance(optimizer, str):
        rule = optim.get(optimizer)
        return rule(arrays_for(rule, net))
    if not isinstance(optimizer, optim.Optimizer):
        raise TypeError(f"optimizer: expected a rule of optcore.optim, its name or None, "
                        f"got {type(optimizer).__name__}")
    return optimizer


def _gradient_views(optimizer, theta, grad):
    """The gradient in the optimizer's structure: for each of its arrays that part of the flat gradient."""
    start, views = theta.__array_interface__["data"][0], []
    for group in optimizer.param_groups:
        for a in group["params"]:
            begin, rest = divmod(a.__array_interface__["data"][0] - start, theta.itemsize)
            if rest or a.dtype != theta.dtype or not 0 <= begin <= begin + a.size <= theta.size:
                raise ValueError("optimizer: expected a rule over net.theta or views of it, got other arrays")
            views.append(grad[begin:begin + a.size].reshape(a.shape))
    return views


def _options(optimizer, grads, grad):
    """A rule's options by name, a schedule by its repr, and which part of theta each group updates."""
    options = {"clip_norm": optimizer.clip_norm, "clip_value": optimizer.clip_value,
               "nonfinite": "skip" if optimizer.nonfinite == "skip" else "raise"}
    start, views = grad.__array_interface__["data"][0], iter(grads)
    for i, group in enumerate(optimizer.param_groups):
        mine = [next(views) for _ in group["params"]]
        begins = [(g.__array_interface__["data"][0] - start) // g.itemsize for g in mine]
        parts = [f"{b}:{b + g.size}" for b, g in zip(begins, mine, strict=True)]
        options[f"group {i} parameters"] = " ".join(parts)
        options |= {f"group {i} {k}": _by_name(v) for k, v in group.items() if k != "params"}
    return options


def _by_name(value):
    """The value; for a schedule its repr, without the address that a function's has."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)) if callable(value) else value


def _layers(program):
    """Each operation as text: what it computes and on which shapes, not how its parameters began."""
    return {f"layer {i}": f"{op.name} {list(op.in_shape)} -> {list(op.out_shape)}"
            + "".join(f", {k} {v!r}" for k, v in sorted(op.options.items())) for i, op in enumerate(program.ops)}


def _check_place(path):
    """Raise unless a file can stand there."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"checkpoint: expected a file, got the folder {os.fspath(path)}")
    if not os.path.isdir(os.path.dirname(os.path.realpath(os.fspath(path)))):
        raise FileNotFoundError(f"checkpoint: no such folder: {os.path.dirname(os.fspath(path))}")


def _callbacks(callbacks):
    """The functions to call after a step, and those after an epoch."""
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks: expected a list or tuple of callables, got {type(callbacks).__name__}")
    for c in callbacks:
        if not callable(c) and not hasattr(c, "on_step"):
            raise TypeError(f"callbacks: expected callables or objects with on_step, got {type(c).__name__}")
    return [c.on_step for c in callbacks if hasattr(c, "on_step")], [c for c in callbacks if callable(c)]


def _call(callbacks, run):
    """Call every one, then say whether any wants the training to end."""
    answers = [c(run) for c in callbacks]
    return any(answers)


def _has_classes(loss):
    return loss == "cross_entropy"


def fingerprint(X, y):
    bytes_of = [memoryview(np.ascontiguousarray(a).reshape(-1).view(np.uint8)) for a in (X, y)]
    return zlib.crc32(bytes_of[1], zlib.crc32(bytes_of[0]))


def _positive(name, n):
    if isinstance(n, bool) or not isinstance(n, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"{name}: expected at least 1, got {n}")
    return int(n)
