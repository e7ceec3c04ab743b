"""A loss as a function of one flat vector theta: what every analysis of the library works on."""

import math

import numpy as np

from optcore import checks
from optcore.objective.noise import relative_noise
from optcore.objective.vectors import aligned, reals, scalar, starting_point

KINDS = ("hvp", "gauss_newton", "fisher")


class Objective:
    """A loss, its gradient and its Hessian-vector product as functions of a flat vector theta.

    Every callable is called as ``f(theta)`` for all examples and as ``f(theta, batch)`` for a batch, so code
    without examples needs one argument only (``hvp``: ``f(theta, v)`` and ``f(theta, v, batch)``). It
    receives copies, and what it returns is copied: it may write into its arguments and reuse its output.

    Parameters
    ----------
    loss : callable
        ``loss(theta) -> float``.
    grad : callable, optional
        ``grad(theta) -> array [n]``. Without it only `loss` works.
    hvp : callable, optional
        ``hvp(theta, v) -> array [n]``, the Hessian times v. Without it the central difference of the gradient
        is used; see `hvp`.
    theta0 : array [n]
        The starting point: sets `size` and `dtype` (float32, else float64). Copied.
    n_examples : int
        How many examples the loss is a mean over; the entries of a batch are below it.
    loss_and_grad : callable, optional
        ``loss_and_grad(theta) -> (float, array [n])``, where one pass gives both.
    theta_scale : float
        A length over which the gradient changes: the unit of theta where theta itself is near zero. It sets
        the step of the central difference and the radius of `optcore.curvature.classify`.
    noise : float, optional
        Error of the gradient relative to its size (of single-precision code behind a float64 interface, of an
        iterative solver, of sampling), for the step of the central difference. Where it is not given it is measured,
        with nine gradients at theta0; see `gradient_noise`.

    Attributes
    ----------
    size : int
        n, the number of parameters.
    n_examples : int
    theta0 : array [n]
        Read-only.
    dtype : numpy.dtype
        float32 or float64, of theta and of every vector returned.
    mode : str or None
        "train" or "eval": which batch-norm statistics the loss uses, where it has any.
    concurrent : bool
        Whether products may be computed in several Python threads at once: true for `oc.nn`, whose analyses then use
        the cores better; set it where a callable or an overriding method allows that.
    together : int
        How many products `multiply` is best asked for at once: more than one for an `oc.nn` network that begins with a
        linear layer.
    lower_bound : float
        What the loss is never below, where its form says so (0 for the losses of `oc.nn`); else -inf.
    product_error : float
        Relative error to expect of a Hessian-vector product: the rounding unit eps of the dtype for a product
        that was given or overridden, `gradient_noise` to the power 2/3 for the central difference.

    Notes
    -----
    A subclass calls ``super().__init__(theta0=..., n_examples=...)`` and overrides `loss`, `loss_and_grad`
    and, with an exact product, `hvp`. `check_theta`, `check_vector` and `check_batch` are the checks of this
    class. Whatever a subclass does, theta and all state of the model are unchanged after each call.

    Values that are not finite are returned as they are; an analysis reports them.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> obj = oc.Objective(loss=lambda t: float(t @ t), grad=lambda t: 2 * t, theta0=np.ones(3))
    >>> obj.loss_and_grad(np.ones(3))
    (3.0, array([2., 2., 2.]))
    >>> np.round(obj.hvp(np.ones(3), np.array([1.0, 0.0, 0.0])), 6)
    array([2., 0., 0.])
    """

    mode = None
    concurrent = False
    together = 1
    lower_bound = -math.inf

    def __init__(self, loss=None, grad=None, hvp=None, theta0=None, n_examples=1, *, loss_and_grad=None,
                 theta_scale=1.0, noise=None):
        for name, f in (("loss", loss), ("grad", grad), ("hvp", hvp), ("loss_and_grad", loss_and_grad)):
            if f is not None and not callable(f):
                raise TypeError(f"{name}: expected a callable, got {type(f).__name__}")
        if loss is None and loss_and_grad is None and type(self).loss is Objective.loss:
            raise TypeError("loss: expected a callable, got None")
        self._loss, self._grad, self._hvp, self._loss_and_grad = loss, grad, hvp, loss_and_grad
        self.theta0 = starting_point(theta0)
        self.n_examples = checks.integer("n_examples", n_examples)
        self.theta_scale = checks.number("theta_scale", theta_scale, open_low=True)
        self._exact = hvp is not None or type(self).hvp is not Objective.hvp
        self._noise = None if noise is None else checks.number("noise", noise, high=1.0, open_high=True)

    @property
    def size(self):
        """The number of parameters n."""
        return self.theta0.size

    @property
    def dtype(self):
        """float32 or float64."""
        return self.theta0.dtype

    @property
    def product_error(self):
        """Relative error to expect of a Hessian-vector product."""
        return self._eps if self._exact else self.gradient_noise() ** (2 / 3)

    @property
    def _eps(self):
        return float(np.finfo(self.dtype).eps)

    def loss(self, theta, batch=None):
        """Return the loss, the mean over the batch.

        Parameters
        ----------
        theta : array [n]
            Of the objective's dtype. Integers and lists are converted; float64 for a float32 objective is a
            TypeError, since the loss would be that of another point.
        batch : int array, optional
            Indices of examples; None for all.

        Returns
        -------
        float
        """
        if self._loss is None:
            return self.loss_and_grad(theta, batch)[0]
        return scalar("loss", self._call(self._loss, (self.check_theta(theta),), batch))

    def loss_and_grad(self, theta, batch=None):
        """Return the loss and its gradient.

        Parameters
        ----------
        theta : array [n]
        batch : int array, optional

        Returns
        -------
        loss : float
        grad : array [n]
        """
        theta = self.check_theta(theta)
        if self._loss_and_grad is not None:
            value, grad = self._call(self._loss_and_grad, (theta,), batch)
            return scalar("loss", value), self._vector("grad", grad)
        if self._grad is None:
            raise TypeError("grad: expected a callable, got None; this objective has a loss only")
        value = scalar("loss", self._call(self._loss, (theta,), batch))
        return value, self._gradient(theta, batch)

    def hvp(self, theta, v, batch=None):
        """Return the Hessian of the loss at theta times v.

        Where no product was given: the central difference
        ``(g(theta + h v) - g(theta - h v)) / 2h`` with ``h |v| = e^(1/3) (theta_scale + |theta|)``, e the
        relative error of the gradient: what `gradient_noise` measures, at least the rounding unit of the dtype.
        This step balances truncation, of order (h |v|)^2, and noise, of order e / (h |v|), so the relative error is
        of order e^(2/3) (4e-11 in float64, 2e-5 in float32, where the gradient is exact to rounding), more across
        a kink.

        Parameters
        ----------
        theta : array [n]
        v : array [n]
            Rounded to the objective's dtype: the product is linear in it.
        batch : int array, optional

        Returns
        -------
        array [n]
        """
        theta, v = self.check_theta(theta), self.check_vector("v", v)
        if self._hvp is not None:
            return self._vector("hvp", self._call(self._hvp, (theta, v), batch))
        length = float(np.linalg.norm(v.astype(np.float64)))
        if length == 0 or not math.isfinite(length):
            return v * 0  # zeros, and NaN for a direction that is not finite
        reach = self.difference_reach(theta)
        # The move is formed from the unit vector: h itself would overflow for a tiny v.
        move = (v / length * reach).astype(self.dtype)
        plus = self._gradient(theta + move, batch).astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is returned as it is
            product = (plus - self._gradient(theta - move, batch)) * (length / (2 * reach))
            return product.astype(self.dtype)

    def length(self, theta):
        """Return the length that theta is measured by: the largest of theta_scale, |theta| and |theta0|.

        Parameters
        ----------
        theta : array [n]

        Returns
        -------
        float
        """
        norms = (float(np.linalg.norm(np.asarray(t, dtype=np.float64))) for t in (theta, self.theta0))
        return max(self.theta_scale, *norms)

    def difference_reach(self, theta):
        """Return the distance ``h |v|`` over which `hvp` takes its difference.

        Parameters
        ----------
        theta : array [n]

        Returns
        -------
        float
            0 for an exact product.
        """
        if self._exact:
            return 0.0
        length = float(np.linalg.norm(np.asarray(theta, dtype=np.float64)))
        return self.gradient_noise() ** (1 / 3) * (self.theta_scale + length)

    def gradient_noise(self):
        """Return the relative error of the gradient: as given, or measured once, at theta0.

        Differences of order k of a smooth function over steps d vanish with d^k; what is left at d = eps^0.3 is noise
        s, whose k-th differences have the mean square ``s^2 (2k)!/(k!)^2`` (Hamming; Moré and Wild 2011). It is taken
        relative to the gradient at a tenth of theta's length on either side.

        Returns
        -------
        float
            At least the rounding unit of the dtype, which is also the answer up to a hundred times it: so much is
            ordinary rounding.
        """
        if self._noise is None:
            has_gradient = self._grad or self._loss_and_grad or type(self).loss_and_grad is not Objective.loss_and_grad
            self._noise = self._eps
            if has_gradient:
                self._noise = relative_noise(lambda t: self.loss_and_grad(t)[1], self.theta0, self.theta_scale)
        return max(self._noise, self._eps)

    def gauss_newton(self, theta, v, batch=None):
        """Return the generalised Gauss-Newton matrix J' H_out J times v: J the Jacobian of the model's outputs, H_out
        the Hessian of the loss with respect to them (Schraudolph 2002). It is the Hessian where outputs are linear in
        theta, and never indefinite for a convex loss.

        Parameters
        ----------
        theta, v : array [n]
        batch : int array, optional

        Returns
        -------
        array [n]

        Raises
        ------
        TypeError
            The objective knows no outputs: `oc.nn.objective` and `oc.torch.objective` do.
        """
        raise TypeError("obj: expected an objective that knows the model's outputs (oc.nn, oc.torch), got "
                        f"{type(self).__name__}")

    def fisher(self, theta, v, batch=None):
        """Return the empirical Fisher matrix 1/N sum_i g_i g_i' times v, g_i the gradient of example i.

        Parameters
        ----------
        theta, v : array [n]
        batch : int array, optional

        Returns
        -------
        array [n]

        Raises
        ------
        TypeError
            As `gauss_newton`.
        """
        return Objective.gauss_newton(self, theta, v, batch)

    def multiply(self, theta, vs, batch=None, kind="hvp"):
        """Return a matrix times each of several vectors, which may cost less than one product after the other.

        Parameters
        ----------
        theta : array [n]
        vs : array [k, n] or sequence of k arrays [n]
            At least one.
        batch : int array, optional
        kind : {"hvp", "gauss_newton", "fisher"}
            The method that gives one product.

        Returns
        -------
        list of k arrays [n]

        Raises
        ------
        TypeError, ValueError
            No such kind, or what that method raises.

        Notes
        -----
        A product may differ by rounding with the number of vectors that it is asked for with, and from the same
        one within a spectral density, which has others beside it.

        Examples
        --------
        >>> import numpy as np, optcore as oc
        >>> H = np.array([[2.0, 1.0], [1.0, 0.0]])
        >>> obj = oc.Objective(lambda t: 0.5 * t @ H @ t, hvp=lambda t, v: H @ v, theta0=np.ones(2))
        >>> obj.multiply(np.ones(2), np.eye(2))
        [array([2., 1.]), array([1., 0.])]
        """
        product, theta = getattr(self, checks.one_of("kind", kind, KINDS)), self.check_theta(theta)
        return [product(theta, v, batch) for v in self.check_vectors("vs", vs)]

    def filters(self):
        """Return where in theta each filter stands, the weights into one unit.

        Returns
        -------
        list of (int, int) or None
            Start and stop of each; None where they are not known.
        """
        return None

    def layers(self, theta, batch=None):
        """Return how gradients and units fare in each layer of weights.

        Parameters
        ----------
        theta : array [n]
        batch : int array, optional

        Returns
        -------
        list of LayerState or None
            From input to output; None where no layers are known.
        """
        return None

    def variants(self, theta, seed=0):
        """Return the network with one thing changed, for each change that may help its gradients.

        Parameters
        ----------
        theta : array [n]
        seed : int
            Of parameters that begin anew.

        Returns
        -------
        sequence of Variant
            Empty where none is known.
        """
        return ()

    def check_theta(self, theta):
        """Return a copy of theta in the objective's dtype.

        Parameters
        ----------
        theta : array [n]

        Returns
        -------
        array [n]

        Raises
        ------
        TypeError, ValueError
            Another length, or a dtype that would be rounded.
        """
        array = reals("theta", theta, self.size, self.dtype)
        if array.dtype.kind == "f" and not np.can_cast(array.dtype, self.dtype):
            raise TypeError(f"theta: expected {self.dtype}, got {array.dtype}")
        return aligned(array, self.dtype)

    def check_vector(self, name, v):
        """Return a direction in the objective's dtype: a copy, or v itself where products do not write into it.

        Parameters
        ----------
        name : str
            Of the argument, for the error.
        v : array [n]
            Rounded where that is needed.

        Returns
        -------
        array [n]

        Raises
        ------
        TypeError, ValueError
            No real numbers, or another length.
        """
        return aligned(reals(name, v, self.size, self.dtype), self.dtype)

    def check_vectors(self, name, vs):
        """Return directions in the objective's dtype, each as `check_vector` does.

        Parameters
        ----------
        name : str
            Of the argument, for the error.
        vs : array [k, n] or sequence of arrays [n]

        Returns
        -------
        list of array [n]

        Raises
        ------
        TypeError, ValueError
            None of them, or as `check_vector`.
        """
        if len(vs) == 0:
            raise ValueError(f"{name}: expected at least one vector, got none")
        return [self.check_vector(name, v) for v in vs]

    def check_batch(self, batch):
        """Return a batch as a copy in int64.

        Parameters
        ----------
        batch : int array or None

        Returns
        -------
        array of int64 or None

        Raises
        ------
        TypeError, ValueError
            Empty, or no indices of examples.
        """
        found = checks.indices("batch", batch, self.n_examples)
        return None if found is None else found.copy()

    def _gradient(self, theta, batch):
        if self._grad is None:
            return self.loss_and_grad(theta, batch)[1]
        return self._vector("grad", self._call(self._grad, (theta,), batch))

    def _call(self, f, args, batch):
        batch = self.check_batch(batch)
        args = tuple(a.copy() for a in args)
        return f(*args) if batch is None else f(*args, batch)

    def _vector(self, name, value):
        """What a callable returned, as an array of its own [n]."""
        return reals(name, value, self.size).astype(self.dtype)


def check_objective(obj):
    """Refuse what is no Objective."""
    if not isinstance(obj, Objective):
        raise TypeError(f"obj: expected an Objective, got {type(obj).__name__}")
