"""Training: mini-batches through a network and an update rule; history, checkpoints, exact resume."""

from optcore.history import History
from optcore.train.callbacks import EarlyStopping
from optcore.train.diagnosing import Diagnose
from optcore.train.evaluation import evaluate
from optcore.train.loggers import JSONLines, TensorBoard
from optcore.train.loop import fit
from optcore.train.rule import arrays_for
from optcore.train.run import steps_per_epoch
from optcore.train.saved import check_fit, fingerprint, load_state, previous

__all__ = ["Diagnose", "EarlyStopping", "History", "JSONLines", "TensorBoard", "arrays_for", "check_fit", "evaluate",
           "fingerprint", "fit", "load_state", "previous", "steps_per_epoch"]
