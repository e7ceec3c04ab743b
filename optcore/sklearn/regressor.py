"""The regressor."""

from typing import ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import validate_data

from optcore import nn
from optcore.sklearn.base import MLP
from optcore.sklearn.parameters import documented


@documented
class MLPRegressor(RegressorMixin, MLP):
    """A multi-layer perceptron that regresses, with the parameters of scikit-learn's and the library's speed.

    Half the squared error, summed over the outputs; the mean over the examples of a batch, by their weights, plus
    alpha/2 * |W|^2 / (weight of a batch).

    Parameters
    ----------
    loss : {{"squared_error"}}
        scikit-learn's "poisson" is not there.
    {parameters}

    Attributes
    ----------
    {attributes}

    Notes
    -----
    {notes}
    With several outputs scikit-learn's ``loss_`` has the mean over them, while its gradient is that of the sum; here
    both are of the sum.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    >>> y = X[:, 0] * X[:, 1]
    >>> reg = MLPRegressor(random_state=0, learning_rate_init=0.01, max_iter=300).fit(X, y)
    >>> bool(reg.score(X, y) > 0.95)
    True
    """

    _parameter_constraints: ClassVar = {**MLP._parameter_constraints, "loss": [StrOptions({"squared_error"})]}

    def __init__(self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", *, solver="adam",
                 alpha=0.0001, batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5,
                 max_iter=200, shuffle=True, random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9,
                 nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, beta_1=0.9, beta_2=0.999,
                 epsilon=1e-8, n_iter_no_change=10, max_fun=15000, batch_norm=False, clip_norm=None, schedule=None,
                 dtype="auto", n_jobs=None):
        self.loss, self.hidden_layer_sizes, self.activation = loss, hidden_layer_sizes, activation
        self.solver, self.alpha, self.batch_size = solver, alpha, batch_size
        self.learning_rate, self.learning_rate_init = learning_rate, learning_rate_init
        self.power_t, self.max_iter, self.shuffle, self.random_state = power_t, max_iter, shuffle, random_state
        self.tol, self.verbose, self.warm_start, self.momentum = tol, verbose, warm_start, momentum
        self.nesterovs_momentum, self.early_stopping = nesterovs_momentum, early_stopping
        self.validation_fraction, self.beta_1, self.beta_2 = validation_fraction, beta_1, beta_2
        self.epsilon, self.n_iter_no_change, self.max_fun = epsilon, n_iter_no_change, max_fun
        self.batch_norm, self.clip_norm, self.schedule = batch_norm, clip_norm, schedule
        self.dtype, self.n_jobs = dtype, n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix [N, n_features]
        y : array-like [N] or [N, n_outputs]
        sample_weight : array-like [N], optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train for one more pass over X and y.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, once=True)

    def predict(self, X):
        """Return the outputs.

        Parameters
        ----------
        X : array-like or sparse matrix [N, n_features]

        Returns
        -------
        ndarray [N] or [N, n_outputs]
        """
        out = self._outputs(X)
        return out.ravel() if out.shape[1] == 1 else out

    def _checked(self, X, y, first, once):
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
                             dtype=(np.float64, np.float32), reset=first)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _with_class_weight(self, y, sample_weight):
        return sample_weight

    def _targets(self, y, dtype):
        return np.ascontiguousarray(y.reshape(len(y), -1), dtype)

    def _n_outputs(self, target):
        return target.shape[1]

    def _out_activation(self):
        return "identity"

    def _loss(self):
        return nn.MSE(scale=self.n_outputs_ / 2)

    def _score_of(self, y, out, sample_weight):
        return r2_score(y, out, sample_weight=sample_weight)
