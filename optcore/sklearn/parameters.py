"""The documentation that classifier and regressor share."""

_PARAMETERS = """hidden_layer_sizes : int or array-like of int
    Widths of the hidden layers.
activation : {"identity", "logistic", "tanh", "relu", "elu", "gelu", "silu"}
    After each hidden layer.
solver : str or callable
    "adam", "sgd", any other name of ``oc.optim.names()`` with its own defaults, or a function of the network that
    returns an optimizer, such as ``lambda net: oc.optim.Lion(net.theta, lr=1e-4)``. No "lbfgs".
alpha : float
    Strength of the L2 penalty of the weights, alpha/2 * |W|^2 / (weight of a batch), a term of the loss for every
    solver; intercepts have none. A weight decay that a solver has by default comes on top.
batch_size : int or "auto"
    "auto" is min(200, N).
learning_rate : {"constant", "invscaling", "adaptive"}
    For "sgd" only, as in scikit-learn: "invscaling" is learning_rate_init / (t + 1)^power_t after t examples,
    "adaptive" divides by 5 where the training would end.
learning_rate_init, power_t : float
max_iter : int
    Passes over the data.
shuffle : bool
random_state : int, RandomState or None
    Of the start, which is scikit-learn's, bit for bit up to the dtype; of the part that is held out, which is
    scikit-learn's; and of the order of the examples, which is not.
tol, n_iter_no_change : float, int
    The training ends where loss or validation score has not improved by `tol` in more than so many passes.
verbose : bool
    Print loss and score of every pass.
warm_start : bool
    Go on from the parameters that are there; with a new state of the solver.
momentum, nesterovs_momentum : float, bool
    Of "sgd", in PyTorch's form: as scikit-learn's while the rate is constant.
early_stopping, validation_fraction : bool, float
    Hold a part out, end where its score no longer improves, and keep the best parameters.
beta_1, beta_2, epsilon : float
    Of "adam".
max_fun : int
    Not used: of scikit-learn's "lbfgs".
batch_norm : bool
    Batch norm after each hidden layer, before its activation.
clip_norm : float, optional
    Largest norm of a gradient.
schedule : callable, optional
    The rate of each step, for instance ``oc.schedules.cosine_decay(0.01, 2000)``; not for a function as `solver`.
dtype : {"auto", "float32", "float64"}, optional
    Of the arithmetic; outputs have the dtype of X. None is that of X, as in scikit-learn; "auto" is float32, but that
    of X where all examples fit into one batch.
n_jobs : int, optional
    Threads; None for the library's setting, and one where a step is too small to share. The result is the same, bit
    for bit."""

_ATTRIBUTES = """coefs_, intercepts_ : list of ndarray
    Weights [n_in, n_out] and intercepts of each layer: views into the network.
network_ : optcore.nn.Sequential
loss_, best_loss_ : float
    Loss of the last pass and the smallest of all, penalty included.
loss_curve_ : list of float
validation_scores_, best_validation_score_ : list of float, float
    With early stopping, else None.
n_iter_, t_ : int
    Passes, and examples seen.
n_layers_, n_outputs_, n_features_in_ : int
feature_names_in_ : ndarray of str
    Where X has names.
out_activation_ : str"""

_NOTES = """A sparse X is made dense: as a whole to train, 4096 rows at a time to predict. The penalty of a batch is
divided by the mean weight of a batch where scikit-learn takes that of each; they differ in a last batch that is
shorter. scikit-learn adds Adam's epsilon before the bias correction of the denominator, the library after it. Batch
norm takes the statistics of a batch, without weights."""


def documented(cls):
    """Put what the two have in common into the docstring of a class."""
    def indented(text):
        return text.replace("\n", "\n    ")

    cls.__doc__ = cls.__doc__.format(parameters=indented(_PARAMETERS), attributes=indented(_ATTRIBUTES),
                                     notes=indented(_NOTES))
    return cls
