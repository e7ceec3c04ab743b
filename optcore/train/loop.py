"""The loop of a training run: epochs, callbacks, checkpoints, Ctrl-C."""

import contextlib
import math
import os
import signal
import sys
import threading

import numpy as np

from optcore import checks
from optcore import progress as _progress
from optcore.nn import Sequential
from optcore.process import one_pool
from optcore.train import arguments
from optcore.train.callbacks import Hooks, call
from optcore.train.run import Run
from optcore.train.saved import Checkpoints, find_state


def fit(net, X, y, loss="cross_entropy", optimizer=None, epochs=10, batch_size=32, shuffle=True,
        validation=None, seed=0, progress=True, callbacks=(), checkpoint=None, resume=None,
        *, sample_weight=None, class_weight=None, checkpoint_every=1, checkpoint_steps=None, l1=0.0, l2=0.0):
    """Train a network in place.

    Parameters
    ----------
    net : optcore.nn.Sequential
        Its ``theta`` and buffers are what is trained.
    X : ndarray [N, ...] or optcore.data.Rows
        Finite examples in the network's dtype, C-contiguous; memory-mapped ones (``np.load(path, mmap_mode="r")``) are
        read a batch at a time. `Rows` also standardises and converts them as they are read.
    y : ndarray
        For "cross_entropy" int64 class indices [N] or probabilities [N, K]; for the others values of the outputs'
        shape and dtype, finite.
    loss : {"cross_entropy", "mse", "bce", "huber"} or loss
        A name, or an object with options such as ``oc.nn.CrossEntropy(label_smoothing=0.1)``; the mean over the batch.
    optimizer : optcore.optim.Optimizer or Wrapper, str or None
        A rule over ``net.theta`` or over views of it (``net.parameters``; what is left out stays as it is), a
        wrapper around one (`MultiSteps`, `Lookahead`, `EMA`, `SAM`, or several of them), a rule's name (over
        ``net.theta``, a layerwise rule over ``net.parameters``), or None for ``AdamW(net.theta)``. Its ``lr`` may be a
        schedule of the step.
    epochs : int
        Passes over the data, those of the run that is resumed included.
    batch_size : int or None
        Examples in a step; None is the full batch. A last batch that is shorter is used too; where a network
        normalises over the batch, a last batch of one example, which has no variance, joins the one before it.
    shuffle : bool
        A new order in each epoch.
    validation : (ndarray, ndarray), the same with weights, or float, optional
        Examples and targets to evaluate after each epoch, or the share of X to hold out for it (at random,
        every class in the same proportion). A schedule-free rule holds its average meanwhile (``eval()``), and then
        its parameters again, bit for bit.
    seed : int
        Of the held-out part and the order of the examples. The start of the network has its own.
    progress : bool
        Show the run on standard error.
    callbacks : list or tuple
        Objects with one or more of the methods ``on_start``, ``on_step``, ``on_epoch`` and ``on_end``, or functions to
        call after an epoch; each is given the run, and a true value returned ends the training there.
        `optcore.train.callbacks` says what a run has. What one with ``state_dict`` and ``load_state_dict``
        remembers is part of the checkpoint.
    checkpoint : str or path, optional
        File to save the run to, atomically, every `checkpoint_every` epochs and at the end. The one before it is kept
        beside it, as "run.previous.safetensors" for "run.safetensors".
    resume : str or path, optional
        File of a run to continue, on the same data with the same network, rule, settings and callbacks as at its
        start: parameters, buffers, state and history end with the bits of a run that was never interrupted, and so
        does what a schedule such as `ReduceOnPlateau` remembers. Where the file is damaged, the one before it is
        used, with a warning.
    sample_weight : array_like [N], optional
        Weights of the examples, finite and at least 0. The loss of a batch is the weighted mean, sum_i w_i*loss_i /
        sum_i w_i; examples of weight 0 are left out. A share that is held out is evaluated by its weights.
    checkpoint_every : int
        Epochs.
    checkpoint_steps : int, optional
        Save after every so many steps, too: for long epochs.
    class_weight : "balanced", dict or sequence, optional
        Weights of the classes in a cross-entropy of class indices, in validation too; see `optcore.data.class_weights`.
        "balanced" counts in the training part. Examples of a class of weight 0, in a loss that has weights too, are
        left out.
    l1, l2 : float
        Of the penalty l1*sum |w| + l2/2*sum w^2 of the weights (not of biases and norms), a term of the loss; finite
        and at least 0. The slope of |w| at 0 is 0. Losses in the history include it, validation losses do not: they
        say what the network is worth on other data. It is not the weight decay of a rule.

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

    A call of a wrapper's ``step`` is a step here, whether the rule moves in it or not; ``lr`` in the history is that of
    the rule's next step. Gradients that wait in a `MultiSteps` when the run ends go on waiting. With `SAM` a step takes
    two gradients of one batch; loss and running statistics are those of the first. The average of an `EMA` is evaluated
    by who holds it, within ``ema.applied()``, for instance in a callback.

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
    epochs, every = checks.integer("epochs", epochs), checks.integer("checkpoint_every", checkpoint_every)
    if not isinstance(net, Sequential):
        raise TypeError(f"net: expected an optcore.nn.Sequential, got {type(net).__name__}")
    steps = math.inf if checkpoint_steps is None else checks.integer("checkpoint_steps", checkpoint_steps)
    seed = checks.integer("seed", seed, 0)
    rows, held_out, weight, held_weight = arguments.examples(net, X, y, loss, validation, seed, sample_weight)
    if class_weight is not None:
        loss = arguments.weighted(loss, class_weight, y if rows is None else y[rows], net.program.out_shape[0])
    rows = arguments.counted(loss, y, rows, held_out)
    hooks = Hooks(callbacks)
    run = Run(net, X, y, rows, held_out, loss, optimizer, batch_size, shuffle, seed, callbacks, weight, held_weight,
              l1, l2)
    if checkpoint is not None:
        arguments.check_place(checkpoint)
    source = None
    if resume is not None:
        state, source = find_state(checks.path("resume", resume))
        run.restore(state, source)
    files = None if checkpoint is None else Checkpoints(checkpoint, source)
    # What overflows is found by the optimizer's check; NumPy's warnings would only say it twice.
    quiet = np.errstate(over="ignore", invalid="ignore")
    with one_pool, quiet, run.strict(), _Interrupt(run), _displayed(run, epochs, progress), _ending(hooks, run):
        run.stopped = call(hooks.on_start, run)
        while run.epoch < epochs and not run.interrupted and not run.stopped:
            _steps(run, hooks, files, steps)
            if run.batch < run.batches_per_epoch:
                break
            run.finish_epoch()
            run.stopped |= call(hooks.on_epoch, run)
            if run.display:
                run.display.update(run.epoch, 0, run.numbers)
            if files and run.epoch < epochs and (run.epoch % every == 0 or run.step % steps == 0):
                files.save(run.state())
        run.history.interrupted = run.interrupted
        if files:
            files.save(run.state())
    if run.interrupted:
        _tell(run, checkpoint)
    return run.history


def _tell(run, checkpoint):
    """Say what a Ctrl-C left, for it went no further."""
    where = f"saved to {os.fspath(checkpoint)}" if checkpoint is not None else "not saved: fit had no checkpoint="
    print(f"interrupted after step {run.step}, in epoch {run.epoch + 1}; the run is {where}", file=sys.stderr)


def _steps(run, hooks, files, every):
    """What is left of an epoch, or of it until something ends the training."""
    for _ in run.steps():
        if hooks.on_step:
            run.stopped = call(hooks.on_step, run)
        if run.display:
            run.display.update(run.epoch, run.batch, run.numbers)
        if run.interrupted or run.stopped:
            return
        if files and run.step % every == 0 and run.batch < run.batches_per_epoch:
            files.save(run.state())


@contextlib.contextmanager
def _displayed(run, epochs, progress):
    if progress:
        done = run.epoch + run.batch / run.batches_per_epoch
        run.display = _progress.show(epochs, run.batches_per_epoch, run.n, done)
    try:
        yield
    finally:
        if run.display:
            run.display.close()


@contextlib.contextmanager
def _ending(hooks, run):
    """Call every on_end, also after an error, and after one of them raised."""
    with contextlib.ExitStack() as stack:
        for method in hooks.on_end:
            stack.callback(method, run)
        try:
            yield
        except BaseException as error:
            run.error = error
            raise


class _Interrupt:
    """Turns the first Ctrl-C into a flag of the run where it would raise KeyboardInterrupt; the second raises."""

    def __init__(self, run):
        self.run, self.before = run, None

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.before = signal.signal(signal.SIGINT, self.handle)

    def handle(self, *_):
        self.run.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *exc):
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
