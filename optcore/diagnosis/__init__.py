"""Why did training stop? Quantities (`measure`), decisions (`verdicts`), words (`report`), the proof (`verify`)."""

import numpy as np

from optcore.diagnosis.measure import measure
from optcore.diagnosis.quantities import Quantity
from optcore.diagnosis.report import Diagnosis, explain
from optcore.diagnosis.thresholds import Thresholds
from optcore.diagnosis.trials import tried
from optcore.diagnosis.verdicts import Cause, decide
from optcore.diagnosis.verify import Verification
from optcore.process import one_pool

__all__ = ["Cause", "Diagnosis", "Quantity", "Thresholds", "Verification", "diagnose"]


def diagnose(obj, theta, optimizer=None, batch_size=None, history=None, *, thresholds=None, **options):
    """Say why the loss no longer falls at theta: nothing is assumed, each verdict rests on measured losses.

    Local quantities propose a cause; counterfactual runs on copies decide it: 50 steps of the same rule with its
    state, at its rate, a tenth and ten times of it, without noise and on mini-batches, and 300 where a lower rate gains
    more. The verdicts, in the order of the tests (the first that holds binds, `Diagnosis.causes` lists all):

    - "diverged": the loss, the gradient or a Hessian-vector product is not finite, or the loss is far above its start.
    - "dead_units": most units of a layer have a zero derivative on every example.
    - "exploding_gradients", "vanishing_gradients": the gradient grows, or shrinks, from layer to layer on its way back.
    - "saddle", "maximum": there is negative curvature, a step along it really lowers the loss, and the gradient is
      small: critical (see `optcore.curvature.classify`), or a Newton-like step promises at most 2 % of that gain. A
      negative eigenvalue alone is neither.
    - "plateau": gradient and curvature are small over a large distance, beside what is left to gain behind it.
    - "minimum": no negative curvature (certified), no lower loss along the flat directions that were searched, and the
      gradient is critical or promises less than 1e-6 of what training has gained since the start (the first loss of
      the history, else ``obj.theta0``). A statement of second order: where directions are flat the report says so.
    - "lr_too_large": a copy that goes on leaves all bounds, or bounces across a valley: a lower rate gains at once
      what many more steps would leave there.
    - "edge_of_stability": the rate is at the stable limit of the curvature and the loss stays bounded.
    - "noise_floor": steps without noise gain, mini-batches hardly.
    - "lr_too_small": far below the limit, and ten times the rate gains in proportion; or a schedule has lowered the
      rate so far that no step moves the loss.
    - "progressing": the next steps gain, by what the evidence says.
    - "undetermined": none of these; `Diagnosis.missing` says what would decide it.

    Nothing is changed: parameters, running statistics, the optimizer's state and random generators keep their bits.
    The same seed gives the same answer.

    Parameters
    ----------
    obj : Objective
        The tests of layers need one that knows them: `oc.nn.objective`, `oc.torch.objective`. Beyond 3e8 parameters
        times examples the analysis takes a random sample of the examples, and says so.
    theta : array [n]
        Never changed.
    optimizer : optcore.optim rule or torch.optim.Optimizer, optional
        Its rate, momentum and state are read, never changed. PyTorch's is translated through its ``state_dict``. Weight
        decay that enters the gradient (SGD, Adam; not AdamW) is taken as a penalty of the loss, which is what the rule
        descends.
    batch_size : int, optional
        Of the training; None for all examples, as is one that is not smaller than ``obj.n_examples``.
    history : History, mapping with "loss", or sequence of losses, optional
        Its first loss is the start, its last ones become evidence. Of this training: another one's start misleads,
        and where the losses do not lead to the one at theta, `Diagnosis.missing` says so.
    thresholds : Thresholds, optional
        The numbers that decide.
    **options
        Of `optcore.curvature.classify`; ``seed`` is that of all random choices.

    Returns
    -------
    Diagnosis
        ``str(d)`` is the report.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(lambda t: (1 - t[0] * t[1]) ** 2, lambda t: -2 * (1 - t[0] * t[1]) * t[::-1],
    ...                    theta0=np.ones(2))
    >>> oc.diagnose(obj, np.zeros(2)).verdict
    'saddle'
    >>> oc.diagnose(obj, np.array([0.5, 0.3])).verdict
    'progressing'
    """
    if thresholds is not None and not isinstance(thresholds, Thresholds):
        raise TypeError(f"thresholds: expected Thresholds, got {type(thresholds).__name__}")
    with one_pool, np.errstate(all="ignore"):  # copies may leave all bounds: a finding, no error
        facts, source = measure(obj, theta, optimizer, batch_size, history, options)
        causes = decide(facts, thresholds or Thresholds())
        return explain(facts, causes, source, tried(source, causes[0].name))
