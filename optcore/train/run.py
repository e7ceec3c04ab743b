"""The state of a training run, and what moves it: one step, the end of an epoch, a checkpoint."""

import contextlib
import functools
import math
import time

import numpy as np

from optcore import checks, data, optim
from optcore.history import History
from optcore.nn.compiled import loss_form
from optcore.nn.penalty import penalty_of
from optcore.train.evaluation import has_classes, measured
from optcore.train.rule import chosen, evaluating, gradient_views, memories, options, parts
from optcore.train.saved import check_fit, fingerprint, layers


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

    Examples
    --------
    >>> import optcore as oc
    >>> plain = oc.nn.Sequential(oc.nn.Linear(3, 2))
    >>> normed = oc.nn.Sequential(oc.nn.Linear(3, 2), oc.nn.BatchNorm(2))
    >>> steps_per_epoch(plain, 5, 2), steps_per_epoch(normed, 5, 2)     # batch norm takes no batch of one
    (3, 2)
    """
    smallest = _smallest_batch(net)
    for name, value, what in (("X", n, "examples"), ("batch_size", batch_size, "examples in a batch")):
        if value < smallest:
            raise ValueError(f"{name}: expected at least {smallest} {what} for a network that normalises over the "
                             f"batch, got {value}")
    return sum(1 for _ in data.batches(n, batch_size, shuffle=False, smallest=smallest))


def _smallest_batch(net):
    """2 where a batch norm sees one value of each channel for each example: one has no variance."""
    alone = any(op.name == "batch_norm" and math.prod(op.in_shape[1:]) < 2 for op in net.program.every_op())
    return 2 if alone else 1


class Run:
    """The state of a training run: everything that a checkpoint holds."""

    def __init__(self, net, X, y, rows, held_out, loss, optimizer, batch_size, shuffle, seed, callbacks,
                 sample_weight=None, held_weight=None, l1=0.0, l2=0.0):
        self.net, self.X, self.y, self.rows, self.held_out, self.loss = net, X, y, rows, held_out, loss
        self.sample_weight, self.held_weight = sample_weight, held_weight
        self.penalty = penalty_of(net.program, l1, l2)
        self.penalties = {"l1": float(l1), "l2": float(l2)}
        self.n = len(X) if rows is None else len(rows)
        self.batch_size = self.n if batch_size is None else min(checks.integer("batch_size", batch_size), self.n)
        self.batches_per_epoch = steps_per_epoch(net, self.n, self.batch_size)
        self.smallest = _smallest_batch(net)
        self.shuffle, self.seed = checks.flag("shuffle", shuffle), seed
        self.rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[0])
        self.optimizer = chosen(optimizer, net)
        self.grad = np.zeros_like(net.theta)
        self.grads = gradient_views(self.optimizer, net.theta, self.grad)
        self.rule = options(self.optimizer, self.grads, self.grad)      # as it is now: a callback may change it
        self.takes_function = any(isinstance(part, optim.SAM) for part in parts(self.optimizer))
        self.form = loss_form(loss) if type(self.optimizer).step is optim.Optimizer.step else None
        self.memories = memories(self.optimizer, callbacks)
        self.rng_before = self.rng.bit_generator.state          # before the order of this epoch was drawn
        self.epoch = self.batch = self.step = 0
        self.seconds = 0.0
        self.stopped = self.interrupted = False
        self.error = self.display = None
        self.history = History(validation=held_out is not None, accuracy=has_classes(loss))
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
        order = data.batches(self.n, self.batch_size, self.shuffle, self.rng, smallest=self.smallest, rows=self.rows)
        for i, index in enumerate(order):
            if i >= self.batch:
                start = time.perf_counter()
                self.one_step(index)
                self.seconds += time.perf_counter() - start
                yield

    def one_step(self, index):
        """One batch: gradient, update, a row of the history. All or nothing."""
        lr = self.optimizer.param_groups[0]["lr"]
        lr = float(lr(self.optimizer.steps) if callable(lr) else lr)
        network = self.net.compiled.take(len(index), True) if self.form else None
        try:
            value = self.in_parts(index) if network is None else self.at_once(network, index)
        except FloatingPointError as error:
            advice = ("A smaller lr, a warm-up or clip_norm may help" if self.step else
                      "No step has been taken: examples, targets or initial parameters are too large")
            raised = FloatingPointError(f"step {self.step} (epoch {self.epoch + 1}, lr {lr:g}): {error}. {advice}")
            raised.history = self.history
            raise raised from error
        self.step += 1
        self.batch += 1
        norm = self.optimizer.last_grad_norm
        norm = math.nan if norm is None else float(norm)        # SAM has none where it left the step out
        self.history.add_step(loss=float(value), lr=lr, grad_norm=norm, examples=len(index))

    def at_once(self, network, index):
        """Gather, gradient and update in one call; return the loss before the step."""
        X, y, weight = self.X, self.y, self.sample_weight
        rows = index if len(index) < len(X) else None       # of all examples the order does not matter
        if not isinstance(X, np.ndarray):
            X, y, rows = X[index], y[index], None
            weight = None if weight is None else weight[index]
        try:
            return network.step(X, y, rows, self.form, self.grad, self.grads, self.optimizer, weight,
                                self.penalty)
        finally:
            self.net.compiled.give(network, True)

    def in_parts(self, index):
        """The same, with Python in between: for wrappers, rules with a step of their own, what has no compiled form."""
        x, target, weight = self.X, self.y, self.sample_weight
        if not isinstance(x, np.ndarray):
            x, target = x[index], target[index]
            weight = None if weight is None else weight[index]
        elif len(index) < len(self.X):
            # mode="clip" writes into `out` directly; the default goes through a buffer
            x = np.take(self.X, index, axis=0, out=self._x[:len(index)], mode="clip")
            target = np.take(self.y, index, axis=0, out=self._y[:len(index)], mode="clip")
            weight = None if weight is None else weight[index]
        buffers, skipped = self.buffers(), self.optimizer.skipped_steps
        try:
            value = self.update(x, target, weight)
        except FloatingPointError:
            self.put_back(buffers)
            raise
        if self.optimizer.skipped_steps > skipped:
            self.put_back(buffers)
        return value

    def update(self, x, target, weight=None):
        """Step the optimizer on one batch; return the loss before the step."""
        values, before = [], self.buffers() if self.takes_function else {}

        def gradient():
            after = self.buffers() if values else {}
            if values:      # a second gradient, SAM's: with dropout's masks of the first, and leaving no trace
                self.put_back(before)
            values.append(self.net.loss_and_grad(x, target, loss=self.loss, grad=self.grad,
                                                 sample_weight=weight, **self.penalties))
            self.put_back(after)
            if not math.isfinite(values[-1]) and self.optimizer.nonfinite == "raise":
                raise FloatingPointError(f"loss: expected a finite value, got {values[-1]}; nothing was changed")
            return self.grads

        self.optimizer.step(gradient if self.takes_function else gradient())
        return values[0]

    def buffers(self):
        """A copy of the network's buffers."""
        return {name: b.copy() for name, b in self.net.buffers.items()}

    def put_back(self, buffers):
        """Write a copy into the network's buffers."""
        for name, kept in buffers.items():
            self.net.buffers[name][...] = kept

    def finish_epoch(self):
        """Close the epoch: evaluate, and add a row to the history."""
        start = time.perf_counter()
        row = {}
        if self.held_out is not None:
            with evaluating(self.optimizer, self.net.theta):
                X, y, rows = self.held_out
                row = measured(self.net, X, y, self.loss, rows, self.held_weight)
        self.seconds += time.perf_counter() - start
        self.history.add_epoch(self.batches_per_epoch, seconds=self.seconds, **row)
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0

    def weights(self):
        """Copies of the parameters that are evaluated, and of the buffers."""
        with evaluating(self.optimizer, self.net.theta):
            return {"theta": self.net.theta.copy(), "buffers": self.buffers()}

    def say(self, text):
        """Show a line beside the progress display, if there is one."""
        if self.display is not None:
            self.display.say(text)

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

    @functools.cached_property
    def checksums(self):
        """Of the data: read once in a run, and only where a checkpoint needs them."""
        return {"data": fingerprint(self.X, self.y, self.rows, self.sample_weight),
                "validation": fingerprint(*self.held_out, self.held_weight) if self.held_out else None}

    def settings(self):
        """What must be the same when the run is resumed."""
        return {
            "parameters": self.net.theta.size, "dtype": self.net.theta.dtype.name, "loss": str(self.loss),
            "examples": self.n, "batch_size": self.batch_size, "shuffle": self.shuffle, "seed": self.seed,
            **self.checksums, **layers(self.net.program), **self.rule,
            **({} if self.penalty is None else self.penalties),
        }

    def state(self):
        """Everything, as `optcore.checkpoint` takes it."""
        return {
            "settings": self.settings(), "theta": self.net.theta, "buffers": dict(self.net.buffers),
            "optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "batch": self.batch, "step": self.step,
            "rng": self.rng_before if self.batch else self.rng.bit_generator.state, "seconds": self.seconds,
            "history": self.history.state_dict(), "memories": [m.state_dict() for m in self.memories],
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
        if len(state["memories"]) != len(self.memories):
            raise ValueError(f"resume: {path}: expected {len(self.memories)} schedules and callbacks with a memory, "
                             f"got {len(state['memories'])}")
        rng = np.random.default_rng()
        try:
            rng.bit_generator.state = state["rng"]
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            raise ValueError(f"resume: {path}: not a state of the random generator ({error})") from error
        history = History.from_state_dict(state["history"])
        self.recall(state["memories"], state["optimizer"])      # nothing after it can fail
        self.net.theta[...] = state["theta"]
        self.put_back(state["buffers"])
        self.rng, self.history = rng, history
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.seconds = state["seconds"]

    def recall(self, saved, optimizer):
        """Load the memories and the optimizer, each of which checks its own state. All or nothing."""
        before = [m.state_dict() for m in self.memories]
        try:
            for memory, state in zip(self.memories, saved, strict=True):
                memory.load_state_dict(state)
            self.optimizer.load_state_dict(optimizer)
        except BaseException:
            for memory, state in zip(self.memories, before, strict=True):
                memory.load_state_dict(state)
            raise
