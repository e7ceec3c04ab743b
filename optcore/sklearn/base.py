"""What classifier and regressor share."""

import contextlib
import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from optcore import optim, train
from optcore.process import threads
from optcore.sklearn import network
from optcore.sklearn.watch import Watch

_ROWS = 4096            # rows of a sparse matrix that are made dense together
_SMALL = 5e7            # operations of a step below which a second thread costs more than it does


class MLP(BaseEstimator, ABC):
    """A multi-layer perceptron; see `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: ClassVar = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(network.ACTIVATIONS))],
        "solver": [StrOptions({"lbfgs", *optim.names()}), callable],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "batch_norm": ["boolean"],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "schedule": [callable, None],
        "dtype": [StrOptions({"auto", "float32", "float64"}), None],
        "n_jobs": [Interval(Integral, 1, None, closed="left"), None],
    }

    # ------------------------------------------------------------------------------------------------- what is learned

    @property
    def coefs_(self):
        """The weights of each layer [n_in, n_out]: views into the network."""
        return network.coefs(self._fitted("coefs_"))

    @property
    def intercepts_(self):
        """The intercepts of each layer: views into the network."""
        return network.intercepts(self._fitted("intercepts_"))

    @property
    def network_(self):
        """The `optcore.nn.Sequential` itself."""
        return self._fitted("network_")

    def _fitted(self, name):
        if "_net" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no {name} before fit")
        return self._net

    def __getstate__(self):
        state = dict(super().__getstate__())
        if "_net" in state:
            state["_net"] = {"theta": self._net.theta.copy(), "buffers": dict(self._net.buffers)}
            state["_optimizer"], state["_optimizer_state"] = None, self._state_of_optimizer()
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_net" in state:
            kept, self._net = state["_net"], self._shape.network()
            self._net.theta = kept["theta"]
            for name, array in kept["buffers"].items():
                self._net.buffers[name][...] = array

    def _state_of_optimizer(self):
        return self._optimizer_state if self._optimizer is None else self._optimizer.state_dict()

    # -------------------------------------------------------------------------------------------------------- training

    def _fit(self, X, y, sample_weight=None, once=False):
        """Train on checked parameters; `once` is one more pass over the data, `partial_fit`."""
        self._check_parameters(once)
        first = "_net" not in vars(self) or not (self.warm_start or once)
        X, y = self._checked(X, y, first, once)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        sample_weight = self._with_class_weight(y, sample_weight)
        dtype = self._shape.dtype if self.dtype == "auto" and not first else self._dtype(X)
        X, target, rng = network.real_numbers(X, dtype), self._targets(y, dtype), check_random_state(self.random_state)
        self._plan(X.shape[1], target, dtype, rng, first)
        X, target, sample_weight, held_out = self._split(X, y, target, sample_weight, rng)
        self._train(X, target, sample_weight, held_out, rng, once)
        return self

    def _check_parameters(self, once):
        if self.solver == "lbfgs":
            raise ValueError("solver: 'lbfgs' is not supported: expected 'adam', 'sgd' or another of "
                             f"{', '.join(optim.names())}, or a function that returns an optimizer; "
                             "sklearn.neural_network has 'lbfgs'")
        if once and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.schedule is not None and self.learning_rate != "constant":
            raise ValueError(f"schedule: expected learning_rate='constant' with it, got {self.learning_rate!r}")

    def _dtype(self, X):
        """The dtype of the network; in one batch there is no noise, and nothing to gain from float32."""
        if self.dtype == "auto":
            return X.dtype.name if X.shape[0] <= self._batch_size(X.shape[0]) else "float32"
        return self.dtype or X.dtype.name

    def _batch_size(self, n):
        return min(200 if self.batch_size == "auto" else self.batch_size, n)

    def _plan(self, n_features, target, dtype, rng, first):
        """Make the network, or check that the one there is fits."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        if not all(isinstance(n, Integral) and n > 0 for n in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        n_outputs = self._n_outputs(target)
        shape = network.Shape((n_features, *map(int, hidden), n_outputs), self.activation, bool(self.batch_norm), dtype)
        if not first:
            if shape != self._shape:
                raise ValueError(f"expected the network of the fit before, {self._shape}, got {shape}")
            if self.early_stopping != (self.best_loss_ is None):
                self._forget()
            return
        self._shape, self._net = shape, shape.network()
        shape.draw(self._net, rng)
        self.n_layers_, self.n_outputs_, self.out_activation_ = len(shape.units), n_outputs, self._out_activation()
        self.t_, self.loss_curve_, self._optimizer, self._optimizer_state = 0, [], None, None
        self._forget()

    def _forget(self):
        """Begin to watch for improvements."""
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None

    def _split(self, X, y, target, sample_weight, rng):
        """Hold a part out where early stopping needs it: the one that scikit-learn would."""
        if not self.early_stopping:
            return X, target, sample_weight, None
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        kept, held = train_test_split(np.arange(len(X)), random_state=rng, test_size=self.validation_fraction,
                                      stratify=stratify)
        if len(held) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your "
                             "dataset.")
        weights = [None if sample_weight is None else sample_weight[part] for part in (kept, held)]
        return X[kept], target[kept], weights[0], (X[held], y[held], weights[1])

    def _train(self, X, target, sample_weight, held_out, rng, once):
        n = len(X) if sample_weight is None else np.count_nonzero(sample_weight)
        batch_size = self._batch_size(n)
        if self.batch_size != "auto" and self.batch_size > len(X):
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                          stacklevel=4)
        mean = 1.0 if sample_weight is None else sample_weight.sum() / max(n, 1)
        l2 = self.alpha / max(batch_size * mean, np.finfo(float).tiny)
        self._prepare_optimizer(once)
        watch, self.n_iter_ = Watch(self, held_out, once), 0
        try:
            with self._threads(batch_size):
                history = train.fit(self._net, X, target, self._loss(), self._optimizer, epochs=self.max_iter,
                                    batch_size=batch_size, shuffle=self.shuffle, seed=int(rng.randint(2**31)),
                                    callbacks=[watch], sample_weight=sample_weight, progress=False, l2=l2)
        except FloatingPointError as error:
            raise ValueError("Solver produced non-finite parameter weights. The input data may contain large values "
                             f"and need to be preprocessed. ({error})") from error
        if history.interrupted:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        elif self.n_iter_ == self.max_iter and not once and self._no_improvement_count <= self.n_iter_no_change:
            warnings.warn(f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                          "hasn't converged yet.", ConvergenceWarning, stacklevel=4)

    def _prepare_optimizer(self, once):
        """A new one, or for `partial_fit` that of the call before."""
        if not once or (self._optimizer is None and self._optimizer_state is None):
            self._optimizer = network.optimizer(self, self._net)
        elif self._optimizer is None:
            self._optimizer = network.optimizer(self, self._net)
            self._optimizer.load_state_dict(self._optimizer_state)
        self._optimizer_state = None

    def _threads(self, batch_size):
        """The setting of the library, or n_jobs; one thread where a step is too small to share. Bits are the same."""
        operations = 6 * batch_size * self._net.theta.size
        n_jobs = self.n_jobs or (1 if operations < _SMALL else None)
        return threads(n_jobs) if n_jobs else contextlib.nullcontext()

    # ------------------------------------------------------------------------------------------------------ prediction

    def _outputs(self, X):
        """The outputs of the network for X as a user gives it."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        if not hasattr(X, "toarray"):
            return self._net.predict(network.real_numbers(X, self._shape.dtype)).astype(X.dtype, copy=False)
        X = X.tocsr()
        pieces = [network.real_numbers(X[i:i + _ROWS], self._shape.dtype) for i in range(0, X.shape[0], _ROWS)]
        return np.concatenate([self._net.predict(piece) for piece in pieces]).astype(X.dtype, copy=False)

    def _score(self, X, y, sample_weight):
        """Score outputs of checked data; NaN where they are not finite."""
        out = self._net.predict(X)
        return self._score_of(y, out, sample_weight) if np.isfinite(out).all() else np.nan

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @abstractmethod
    def _loss(self):
        """The loss of `optcore.nn` that is minimised."""
