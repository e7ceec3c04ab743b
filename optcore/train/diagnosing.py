"""A callback that watches the loss and asks why, once it no longer falls."""

import json
import math

import numpy as np

from optcore import checks, nn
from optcore.diagnosis import diagnose

__all__ = ["Diagnose"]

_STATE = ("first", "best", "waited", "wait", "seen")
_FEWEST = 20  # steps between two looks


class Diagnose:
    """Say why the training stopped to improve, when it does: a callback of `fit`.

    It looks at the mean loss of each epoch (of at least 20 steps), from the run's history: nothing is computed
    meanwhile. Where `patience` such means in a row are not below the best one, by `min_share` of what was gained and
    twice the standard error of the means, `oc.diagnose` is asked, and one line beside the progress display says the
    answer where it is a new one. It asks again where the loss has not improved for twice as long, and once where a loss
    or gradient that is not finite ends the run. The training itself is not changed. Looking costs a few microseconds an
    epoch; a diagnosis as much as some 1,500 gradients over `examples`.

    Parameters
    ----------
    every : int, optional
        Steps between two looks, where epochs are too long to wait for.
    patience : int
        Looks without an improvement.
    min_share : float
        An improvement is at least this share of what has been gained so far.
    examples : int
        The diagnosis takes so many examples of the training part, at random, at least eight batches.
    most : int
        Diagnoses in a run.
    stop : sequence of str
        Verdicts that end the training, such as ``("minimum",)``.
    seed : int
    **options
        Of `oc.diagnose`.

    Attributes
    ----------
    diagnoses : list of (int, Diagnosis)
        What was said, and after which step, since the run was started or resumed.
    reports : list of dict
        The same as `Diagnosis.to_dict` gives it, with ``"step"``; part of the checkpoint.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((100, 3)), rng.standard_normal((100, 1))
    >>> net = oc.nn.Sequential(oc.nn.Linear(3, 1), dtype="float64")
    >>> why = oc.train.Diagnose()
    >>> history = oc.train.fit(net, X, y, "mse", oc.optim.SGD(net.theta, lr=0.2), epochs=300, batch_size=None,
    ...                        callbacks=[why], progress=False)
    >>> step, d = why.diagnoses[0]
    >>> d.verdict
    'minimum'
    """

    def __init__(self, every=None, patience=5, min_share=1e-3, *, examples=2000, most=3, stop=(), seed=0, **options):
        if isinstance(stop, str):
            raise TypeError("stop: expected a sequence of verdicts, got a string")
        self.every = None if every is None else checks.integer("every", every)
        self.patience, self.examples = checks.integer("patience", patience), checks.integer("examples", examples)
        self.min_share = checks.number("min_share", min_share, 0, 1, open_high=True)
        self.most, self.seed = checks.integer("most", most), checks.integer("seed", seed, 0)
        self.stop, self.options = tuple(stop), options
        self.diagnoses, self.reports = [], []
        self.first, self.best, self.waited, self.wait, self.seen = math.nan, math.inf, 0, self.patience, 0
        if every is None:  # a method that is not there costs nothing
            self.on_epoch = self._look
        else:
            self.on_step = self._look

    def _look(self, run):
        """Look, where enough steps have been taken since the last time."""
        steps = run.step - int(self.seen)
        if steps < (self.every or _FEWEST):
            return False
        self.seen = run.step
        return self.stalled(run.history.steps["loss"][-steps:]) and self.ask(run)

    def stalled(self, losses):
        """Take the losses since the last look.

        Parameters
        ----------
        losses : sequence of float

        Returns
        -------
        bool
            Whether it is time to ask.
        """
        mean = math.fsum(losses) / len(losses)
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in losses) / max(1, len(losses) - 1))
        if math.isnan(self.first):
            self.first = losses[0]
        least = max(self.min_share * abs(self.first - self.best) if math.isfinite(self.best) else 0.0,
                    2 * spread / math.sqrt(len(losses)) if self.waited else 0.0)
        if mean < self.best - least:
            self.best, self.waited, self.wait = mean, 0, self.patience
            return False
        self.waited += 1
        return self.waited >= self.wait

    def ask(self, run):
        """Diagnose the run where it is.

        Parameters
        ----------
        run : object
            As `fit` hands it to its callbacks.

        Returns
        -------
        bool
            Whether its training is to end.
        """
        if len(self.reports) >= self.most:
            return False
        self.wait, self.waited = 2 * self.wait, 0
        n = len(run.X) if run.rows is None else len(run.rows)
        size = min(n, max(self.examples, 8 * run.batch_size))
        rows = np.random.default_rng([self.seed, run.step]).choice(n, size, replace=False)
        rows = np.sort(rows if run.rows is None else np.asarray(run.rows)[rows])
        obj = nn.objective(run.net, run.loss, run.X[rows], run.y[rows], **run.penalties)
        batch_size = run.batch_size if run.batch_size < n else None
        d = diagnose(obj, run.net.theta.copy(), run.optimizer, batch_size, run.history, seed=self.seed, **self.options)
        if not self.reports or self.reports[-1]["verdict"] != d.verdict:
            run.say(f"step {run.step}: {d.verdict} ({d.confidence:.2f}): {d.remedy}")
        self.diagnoses.append((run.step, d))
        self.reports.append({"step": run.step, **d.to_dict()})
        return d.verdict in self.stop

    def on_end(self, run):
        """Ask once more where the run ended by a number that is not finite."""
        if isinstance(run.error, FloatingPointError):
            self.ask(run)

    def state_dict(self):
        """Return what a checkpoint keeps.

        Returns
        -------
        dict
            For `load_state_dict`.
        """
        return {**{name: float(getattr(self, name)) for name in _STATE}, "reports": json.dumps(self.reports)}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned.

        Parameters
        ----------
        state : dict
        """
        reports = json.loads(state["reports"])
        for name in _STATE:
            setattr(self, name, float(state[name]))
        self.reports = reports
