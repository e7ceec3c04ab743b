"""A run folder: the settings of a training run, its data and network built from them, and its files."""

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

from optcore import checkpoint, data, nn, optim, schedules, train

__all__ = ["Run", "Settings", "new_folder", "prepare", "read_settings"]

CONFIG, CHECKPOINT, HISTORY, SCALING = "config.toml", "checkpoint.safetensors", "history.jsonl", "scaling.safetensors"
TRAINING, DIAGNOSIS = "training.png", "diagnosis.png"
SPECTRUM, LANDSCAPE, REPORT, TRAJECTORY = "spectrum.png", "landscape.png", "report.html", "trajectory.safetensors"
CHOICES = {"task": ("", "classification", "regression"), "standardize": ("columns", "all", "none"),
           "dtype": ("float32", "float64"), "schedule": ("cosine", "constant"),
           "optimizer": tuple(name for name in optim.names() if name != "muon"),    # which moves matrices alone
           "class_weight": ("", "balanced")}
_FILES = (HISTORY, SCALING, TRAINING, DIAGNOSIS, SPECTRUM, LANDSCAPE, REPORT, TRAJECTORY)
LEAST = {"hidden": 1, "epochs": 1, "batch_size": 1, "seed": 0, "accumulate": 1, "patience": 0, "l1": 0, "l2": 0}


@dataclass(frozen=True)
class Settings:
    """What decides a run, together with the library's version. Flat, so that it is a TOML file as it stands.

    Attributes
    ----------
    data : str
        "digits" or a file.
    target : str
        The column, array or file of the targets, as `optcore.data.load` takes it; empty for its default.
    task : str
        "classification" or "regression"; empty for what the data look like.
    held_out : float
        Share of the examples that is held out.
    standardize : str
        "columns": each column to mean 0 and deviation 1; "all": one mean and deviation for all columns, as
        fits pixels; "none".
    hidden : tuple of int
        Widths of the hidden layers, each with batch norm and ReLU.
    dtype, optimizer, schedule : str
    lr, weight_decay : float
        A rule without weight decay, such as Rprop, goes without.
    epochs, batch_size, seed : int
    accumulate : int
        Batches whose mean gradient is one update.
    patience : int
        Epochs without a smaller held-out loss after which the training ends, with its best parameters; 0: never.
    class_weight : str
        "balanced" against rare classes; empty for none.
    l1, l2 : float
        Of the penalty l1*sum |w| + l2/2*sum w^2 of the weights, a term of the loss.
    """

    data: str
    target: str = ""
    task: str = ""
    held_out: float = 0.2
    standardize: str = "columns"
    hidden: tuple = (128,)
    dtype: str = "float32"
    optimizer: str = "adamw"
    schedule: str = "cosine"
    lr: float = 0.01
    weight_decay: float = 0.01
    epochs: int = 30
    batch_size: int = 16
    seed: int = 0
    accumulate: int = 1
    patience: int = 0
    class_weight: str = ""
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self):
        for f in fields(self):
            _check_setting(f.name, f.type, getattr(self, f.name))
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out: expected a share in (0, 1), got {self.held_out}")

    def write(self, path):
        """Write the settings as TOML."""
        lines = [f"{name} = {_toml(value)}" for name, value in asdict(self).items()]
        Path(path).write_text("# the settings of an optcore run\n" + "\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path):
        """Read what `write` wrote; a ValueError names the file and what is wrong with it."""
        try:
            import tomllib
        except ModuleNotFoundError:         # Python 3.10
            try:
                import tomli as tomllib
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(f"{path}: Python 3.10 needs tomli to read it: pip install tomli") from error
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            if isinstance(values.get("hidden"), list):
                values["hidden"] = tuple(values["hidden"])
            return cls(**values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: not the settings of an optcore run ({error})") from error


@dataclass
class Run:
    """A run that can be trained or looked at.

    Attributes
    ----------
    settings : Settings
    net : optcore.nn.Sequential
    X, y, X_held_out, y_held_out : ndarray
        Standardised, in the network's dtype; X as `optcore.data.Rows` where the file is memory-mapped.
    loss : str or loss
        With the weights of the classes, if any.
    classes : tuple or None
    scaling : dict of str to optcore.data.Standardizer
        What X and y were standardised with, fitted on the training part.
    optimizer_state : dict or None
        That of the checkpoint which `restore` took over; None where the parameters are of an earlier, better epoch.
    """

    settings: Settings
    net: nn.Sequential
    X: np.ndarray
    y: np.ndarray
    X_held_out: np.ndarray
    y_held_out: np.ndarray
    loss: str | nn.losses.Loss
    classes: tuple | None
    scaling: dict
    history: train.History = field(default_factory=train.History)
    optimizer_state: dict | None = None

    @property
    def shape(self):
        """The network's widths, such as "64-128-10"."""
        program = self.net.program
        return "-".join(map(str, (*program.in_shape, *self.settings.hidden, *program.out_shape)))

    def optimizer(self):
        """A fresh update rule with its schedule."""
        s = self.settings
        steps = train.steps_per_epoch(self.net, len(self.X), s.batch_size)
        lr = s.lr
        if s.schedule == "cosine":
            lr = schedules.cosine_decay(s.lr, max(1, s.epochs * steps // s.accumulate))
        rule = optim.get(s.optimizer)
        decay = {"weight_decay": s.weight_decay} if "weight_decay" in rule.rule.options else {}
        rule = rule(train.arrays_for(rule, self.net), lr=lr, nonfinite="raise", **decay)
        return rule if s.accumulate == 1 else optim.MultiSteps(rule, s.accumulate)

    def saved_optimizer(self):
        """The update rule as the checkpoint that was restored left it."""
        rule = self.optimizer()
        if self.optimizer_state is not None:
            rule.load_state_dict(self.optimizer_state)
        return rule

    def fit(self, folder, resume=False, progress=True, callbacks=()):
        """Train, and write the folder; return the history."""
        s, folder = self.settings, Path(folder)
        path = folder / CHECKPOINT
        checkpoint.save(folder / SCALING, {name: scaler.state_dict() for name, scaler in self.scaling.items()})
        stop = [train.EarlyStopping(s.patience)] if s.patience else []
        self.history = train.fit(
            self.net, self.X, self.y, self.loss, self.optimizer(), s.epochs, s.batch_size, seed=s.seed,
            validation=(self.X_held_out, self.y_held_out), progress=progress, checkpoint=path,
            resume=path if resume else None, l1=s.l1, l2=s.l2,
            callbacks=[*stop, train.JSONLines(folder / HISTORY), *callbacks])
        return self.history

    def restore(self, folder):
        """Take over the parameters, buffers and history of the folder's checkpoint."""
        path = Path(folder) / CHECKPOINT
        state = train.load_state(path)
        if state["settings"].get("data") != train.fingerprint(self.X, self.y):
            raise ValueError(f"{self.settings.data}: expected the data of {folder}, but they have changed since")
        train.check_fit(state, self.net, path)
        weights = state
        if self.settings.patience and not state["history"]["interrupted"]:
            weights = state["memories"][-1]["weights"]      # of early stopping, the only callback here with a memory
        self.net.theta = weights["theta"]
        for name, b in self.net.buffers.items():
            b[...] = weights["buffers"][name]
        self.optimizer_state = state["optimizer"] if weights is state else None
        self.history = train.History.from_state_dict(state["history"])
        self.history.interrupted = state["history"]["interrupted"]

    def objective(self, mode):
        """What was descended, over the training examples, as a function of theta: penalties and class weights too."""
        return nn.objective(self.net, self.loss, self.X, self.y, mode, l1=self.settings.l1, l2=self.settings.l2)

    def in_double(self):
        """The same network and training examples in float64: the values of theta are the same."""
        net = _network(self.settings, self.X.shape[1], self.net.program.out_shape[0], "float64")
        net.theta = self.net.theta
        for name, b in net.buffers.items():
            b[...] = self.net.buffers[name]
        X, X_held_out, y_held_out = (_cast(a, "float64") for a in (self.X, self.X_held_out, self.y_held_out))
        return Run(self.settings, net, X, _cast(self.y, "float64"), X_held_out, y_held_out, self.loss,
                   self.classes, self.scaling, self.history, self.optimizer_state)


class Trajectory:
    """A callback that keeps the parameters before training and after each epoch in a file."""

    def __init__(self, path):
        self.path, self.thetas = path, []

    def on_start(self, run):
        """Begin, or go on with the epochs of the file that are no later than the run."""
        saved = checkpoint.load(self.path)["thetas"] if run.epoch and Path(self.path).is_file() else []
        self.thetas = [*saved[:run.epoch + 1]] or [run.net.theta.copy()]

    def on_epoch(self, run):
        """Write the file."""
        self.thetas.append(run.net.theta.copy())
        checkpoint.save(self.path, {"thetas": np.stack(self.thetas)})


def prepare(settings):
    """Read the data and build the network that the settings describe."""
    s = settings
    source = data.load(s.data, s.task or None, target=s.target or None)
    classification = source.classes is not None
    kept, held = data.split(len(source.X), s.held_out, np.random.default_rng(s.seed),
                            source.y if classification else None)
    scaling = {}
    if s.standardize != "none":
        scaling["X"] = data.Standardizer(per_column=s.standardize == "columns").fit(source.X, kept)
    X, X_held_out = (_rows(source.X, scaling.get("X"), s.dtype, part) for part in (kept, held))
    y, y_held_out = source.y[kept], source.y[held]
    if not classification:
        scaling["y"] = data.Standardizer().fit(y)
        y, y_held_out = (scaling["y"].transform(part, s.dtype) for part in (y, y_held_out))
    outputs = len(source.classes) if classification else 1
    loss = "cross_entropy" if classification else "mse"
    if s.class_weight:
        if not classification:
            raise ValueError(f"class_weight: expected classes as targets, got values to predict in {s.data}")
        loss = nn.CrossEntropy(weight=data.class_weights(s.class_weight, y, outputs))
    return Run(s, _network(s, X.shape[1], outputs, s.dtype), X, y, X_held_out, y_held_out, loss, source.classes,
               scaling)


def new_folder(folder, settings, overwrite=False):
    """Make the folder of a new run; a run with other settings, or an unfinished one, is only replaced when told so."""
    folder = Path(folder)
    config = folder / CONFIG
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder}: expected a folder for the run, got a file")
    if config.exists() and not overwrite and Settings.read(config) != settings:
        raise FileExistsError(f"{folder}: holds a run with other settings; --overwrite replaces it, "
                              f"--out names another folder")
    if _saved(folder) and not overwrite and not _is_finished(folder / CHECKPOINT, settings):
        raise FileExistsError(f"{folder}: holds the checkpoint of an unfinished run; --resume continues it, "
                              f"--overwrite begins again")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CHECKPOINT, train.previous(CHECKPOINT), *_FILES):
        (folder / name).unlink(missing_ok=True)
    settings.write(config)


def read_settings(folder):
    """Return the settings of the run in a folder; a FileNotFoundError says what is missing."""
    for name, found in ((CONFIG, (Path(folder) / CONFIG).is_file()), (CHECKPOINT, _saved(folder))):
        if not found:
            raise FileNotFoundError(f"{folder}: expected the folder of a training run, with {name} in it; "
                                    f"optcore train makes one")
    return Settings.read(Path(folder) / CONFIG)


def _saved(folder):
    return any((Path(folder) / name).is_file() for name in (CHECKPOINT, train.previous(CHECKPOINT)))


def _is_finished(path, settings):
    try:
        return train.load_state(path)["epoch"] >= settings.epochs
    except ValueError:      # what cannot be read is not deleted unasked either
        return False


def _check_setting(name, kind, value):
    """Raise unless the value is of this kind (an int is a float, too), one of the choices, and large enough."""
    accepted = (float, int) if kind is float else kind
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise TypeError(f"{name}: expected {'a list' if kind is tuple else kind.__name__}, got {value!r}")
    for v in value if kind is tuple else (value,):
        if kind is tuple and (isinstance(v, bool) or not isinstance(v, int)):
            raise TypeError(f"{name}: expected a list of int, got {v!r} in it")
        if kind is float and not math.isfinite(v):
            raise ValueError(f"{name}: expected a finite number, got {v}")
        if name in LEAST and v < LEAST[name]:
            raise ValueError(f"{name}: expected at least {LEAST[name]}, got {v}")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"{name}: expected one of {', '.join(filter(None, CHOICES[name]))}, got {value!r}")


def _network(s, inputs, outputs, dtype):
    layers, width = [], inputs
    for h in s.hidden:
        layers += [nn.Linear(width, h), nn.BatchNorm(h), nn.ReLU()]
        width = h
    return nn.Sequential(*layers, nn.Linear(width, outputs), dtype=dtype, seed=s.seed)


def _rows(X, scaler, dtype, part):
    """A part of the examples, scaled: an array, or what reads it from the disk as it is needed."""
    rows = data.Rows(X, scaler, dtype, part)
    return rows if isinstance(X, np.memmap) else rows[:]


def _cast(a, dtype):
    return a if a.dtype.kind == "i" else np.ascontiguousarray(a, dtype)


def _toml(value):
    """A TOML value; JSON's strings are TOML's but for DEL and surrogate pairs."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower()
