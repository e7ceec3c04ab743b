"""The classifier."""

from typing import ClassVar

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from optcore import functional, nn
from optcore.sklearn.base import MLP
from optcore.sklearn.parameters import documented


@documented
class MLPClassifier(ClassifierMixin, MLP):
    """A multi-layer perceptron that classifies, with the parameters of scikit-learn's and the library's speed.

    Softmax and cross-entropy for more than two classes, a logistic output for two, one for each label of a multilabel
    indicator; the mean over the examples of a batch, by their weights, plus alpha/2 * |W|^2 / (weight of a batch).

    Parameters
    ----------
    {parameters}
    class_weight : dict, "balanced" or None
        Multiplies the examples' weights; "balanced" is n/(K * count), not for `partial_fit`.

    Attributes
    ----------
    classes_ : ndarray or list of ndarray
    {attributes}

    Notes
    -----
    {notes}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> clf = MLPClassifier(random_state=0, tol=0.005).fit(X[:1500] / 16, y[:1500])
    >>> bool(clf.score(X[1500:] / 16, y[1500:]) > 0.85)
    True
    """

    _parameter_constraints: ClassVar = {**MLP._parameter_constraints,
                                        "class_weight": [StrOptions({"balanced"}), dict, None]}

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001, batch_size="auto",
                 learning_rate="constant", learning_rate_init=0.001, power_t=0.5, max_iter=200, shuffle=True,
                 random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9, nesterovs_momentum=True,
                 early_stopping=False, validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8,
                 n_iter_no_change=10, max_fun=15000, batch_norm=False, clip_norm=None, schedule=None, dtype="auto",
                 n_jobs=None, class_weight=None):
        self.hidden_layer_sizes, self.activation = hidden_layer_sizes, activation
        self.solver, self.alpha = solver, alpha
        self.batch_size, self.learning_rate, self.learning_rate_init = batch_size, learning_rate, learning_rate_init
        self.power_t, self.max_iter, self.shuffle, self.random_state = power_t, max_iter, shuffle, random_state
        self.tol, self.verbose, self.warm_start, self.momentum = tol, verbose, warm_start, momentum
        self.nesterovs_momentum, self.early_stopping = nesterovs_momentum, early_stopping
        self.validation_fraction, self.beta_1, self.beta_2 = validation_fraction, beta_1, beta_2
        self.epsilon, self.n_iter_no_change, self.max_fun = epsilon, n_iter_no_change, max_fun
        self.batch_norm, self.clip_norm, self.schedule = batch_norm, clip_norm, schedule
        self.dtype, self.n_jobs, self.class_weight = dtype, n_jobs, class_weight

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix [N, n_features]
        y : array-like [N] or label indicator [N, n_labels]
        sample_weight : array-like [N], optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """Train for one more pass over X and y.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like, optional
            All the classes that there will be; needed at the first call.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight 'balanced' is not supported for partial_fit: the counts of all examples are "
                             "not known; give a dict or sample_weight")
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer().fit(y if type_of_target(y).startswith("multilabel") else classes)
        return self._fit(X, y, sample_weight, once=True)

    def _checked(self, X, y, first, once):
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True,
                             dtype=(np.float64, np.float32), reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or once):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
            return X, y
        classes = unique_labels(y)
        if self.warm_start and not once and set(classes) != set(self.classes_):
            raise ValueError("warm_start can only be used where `y` has the same classes as in the previous call to "
                             f"fit. Previously got {self.classes_}, `y` has {classes}")
        if not set(classes) <= set(self.classes_):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has "
                             f"{classes}.")
        return X, y

    def _with_class_weight(self, y, sample_weight):
        if self.class_weight is None:
            return sample_weight
        weight = compute_sample_weight(self.class_weight, y)
        return weight if sample_weight is None else weight * sample_weight

    def _targets(self, y, dtype):
        """Class indices for a softmax, else zeros and ones [N, n_outputs]."""
        if self._label_binarizer.y_type_ == "multiclass":
            return np.searchsorted(self.classes_, y).astype(np.int64)
        return np.ascontiguousarray(self._label_binarizer.transform(y), dtype)

    def _n_outputs(self, target):
        return len(self.classes_) if target.ndim == 1 else target.shape[1]

    def _out_activation(self):
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _loss(self):
        return nn.CrossEntropy() if self.out_activation_ == "softmax" else nn.BCE(scale=float(self.n_outputs_))

    def _probabilities(self, out):
        return functional.softmax(out) if self.out_activation_ == "softmax" else functional.sigmoid(out)

    def _labels(self, out):
        p = self._probabilities(out)
        return self._label_binarizer.inverse_transform(p.ravel() if self.n_outputs_ == 1 else p)

    def _score_of(self, y, out, sample_weight):
        return accuracy_score(y, self._labels(out), sample_weight=sample_weight)

    def predict(self, X):
        """Return the class of each example, or its labels [N, n_labels].

        Parameters
        ----------
        X : array-like or sparse matrix [N, n_features]

        Returns
        -------
        ndarray
        """
        check_is_fitted(self)
        return self._labels(self._outputs(X))

    def predict_proba(self, X):
        """Return the probability of each class; for a multilabel classifier that of each label.

        Parameters
        ----------
        X : array-like or sparse matrix [N, n_features]

        Returns
        -------
        ndarray [N, n_classes]
        """
        check_is_fitted(self)
        out = self._outputs(X)
        if self.n_outputs_ == 1:
            return np.hstack([functional.sigmoid(-out), functional.sigmoid(out)])
        return self._probabilities(out)

    def predict_log_proba(self, X):
        """Return the logarithm of `predict_proba`, without its rounding to zero.

        Parameters
        ----------
        X : array-like or sparse matrix [N, n_features]

        Returns
        -------
        ndarray [N, n_classes]
        """
        check_is_fitted(self)
        out = self._outputs(X)
        if self.out_activation_ == "softmax":
            return functional.log_softmax(out)
        both = np.hstack([-out, out]) if self.n_outputs_ == 1 else out
        return -np.logaddexp(both.dtype.type(0), -both)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
