"""Sharpness-aware minimisation: two gradients to a step."""


import numpy as np

from optcore._native import reduce as _reduce
from optcore.checks import flag, number
from optcore.optim.arrays import BLOCK, blocks, checked_copies, copies, exchange, joined_norm, norm_of
from optcore.optim.wrappers import Wrapper


class SAM(Wrapper):
    r"""Sharpness-aware minimisation: step with the gradient of the worst point nearby.

    With g the gradient at theta, and the norm that of all parameters together:

    .. math:: \epsilon = \rho \frac{g}{\|g\| + 10^{-12}} \quad\text{or, adaptive,}\quad
              \epsilon = \rho \frac{\theta^2 g}{\|\,|\theta| g\| + 10^{-12}}

    and the rule steps from theta with the gradient at theta + epsilon.

    Parameters
    ----------
    opt : Optimizer or wrapper
        The rule.
    rho : float
        Radius of the neighbourhood, >= 0.
    adaptive : bool
        Measure the neighbourhood relative to each weight (ASAM, without its constant eta).

    Attributes
    ----------
    perturbed : bool
        The parameters are at theta + epsilon: ``second_step`` or ``restore`` comes next.

    Notes
    -----
    `first_step` keeps a copy of the parameters, so that `second_step` steps from their very bits. A None gradient
    leaves its parameter where it is. In half precision theta + epsilon is rounded to nearest: what is below half a unit
    in the last place of theta moves nothing. In a group with ``maximize`` epsilon has the other sign. Two gradients
    make a step: the schedules and ``steps`` of the rule count steps.

    References
    ----------
    Foret, Kleiner, Mobahi and Neyshabur, 2021; Kwon, Kim, Park and Choi, 2021 (adaptive).

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> theta = np.array([3.0, 4.0])
    >>> opt = oc.optim.SAM(oc.optim.SGD(theta, lr=0.1), rho=0.5)
    >>> opt.first_step(theta.copy())         # the gradient of |theta|^2 / 2
    >>> theta.round(6)
    array([3.3, 4.4])
    >>> opt.second_step(theta.copy())
    >>> theta.round(6)
    array([2.67, 3.56])

    or in one call, with a function that computes the gradient at the parameters as they are:

    >>> opt.step(lambda: theta.copy())
    """

    def __init__(self, opt, rho=0.05, adaptive=False):
        super().__init__(opt)
        self._expect_arrays()
        self.rho, self.adaptive = number("rho", rho), flag("adaptive", adaptive)
        self.perturbed, self._left_out = False, False
        self._origin, self._moved = [], []
        self._parameters()

    @property
    def _takes_arrays(self):
        return False

    def _options(self):
        return f"rho={self.rho}, adaptive={self.adaptive}"

    def _grow(self, parameters):
        self._origin += [None] * (len(parameters) - len(self._origin))

    def eval(self):
        """Let the parameters hold what the rule evaluates. RuntimeError between the two steps, as from `train`."""
        self._refuse_perturbed("eval")
        super().eval()

    def train(self):
        """Let the parameters hold what the rule trains, after `eval`."""
        self._refuse_perturbed("train")
        super().train()

    def _refuse_perturbed(self, name):
        if self.perturbed:
            raise RuntimeError(f"{name}: expected second_step or restore after the first_step before")

    def step(self, gradient):
        """Take both steps. All or nothing: an error has changed nothing.

        Parameters
        ----------
        gradient : callable
            Called twice without arguments, it returns the gradients at the parameters as they are.
        """
        if not callable(gradient):
            raise TypeError(f"gradient: expected a callable that returns the gradients (first_step and second_step "
                            f"take arrays), got {type(gradient).__name__}")
        self.first_step(gradient())
        try:
            self.second_step(gradient())
        except BaseException:
            self.restore()
            raise

    def first_step(self, grads):
        """Move the parameters to the worst point nearby. All or nothing.

        Parameters
        ----------
        grads : array, sequence or mapping
            Gradients at the parameters, as the rule takes them.

        Raises
        ------
        RuntimeError
            The parameters are already there.
        TypeError, ValueError, FloatingPointError
            As the rule's step; nothing has been changed.
        """
        self._refuse_perturbed("first_step")
        rho, parameters = number("rho", self.rho), self._parameters()
        given = self._gradients(grads)
        parameters.check_writable()
        norm = self._norm(parameters, given)
        skipped = self.skipped_steps
        self._left_out = not self._check_finite(parameters, given, norm)
        self.skipped_steps = skipped         # the step is counted once, by second_step
        self._moved = []
        if not self._left_out:
            self._keep(parameters.bits, given)
            self._perturb(given, rho / (norm + 1e-12))
        self.perturbed = True

    def second_step(self, grads):
        """Put the parameters back and step the rule. All or nothing: after an error they are still moved.

        Parameters
        ----------
        grads : array, sequence or mapping
            Gradients at the parameters that `first_step` moved.

        Raises
        ------
        RuntimeError
            There was no `first_step`.
        TypeError, ValueError, FloatingPointError
            As the rule's step; nothing has been changed.
        """
        if not self.perturbed:
            raise RuntimeError("second_step: expected a first_step before it")
        parameters = self._parameters()
        given = self._gradients(grads)
        parameters.check_writable()
        if self._left_out:
            self.skipped_steps += 1
        else:
            self._swap()
            try:
                self.opt.step(given)
            except BaseException:
                self._swap()
                raise
        self.perturbed = self._left_out = False

    def restore(self):
        """Put the parameters back without a step; does nothing where they have not been moved."""
        if self.perturbed:
            self._swap()
            self.perturbed = self._left_out = False

    def _norm(self, parameters, given):
        if not self.adaptive:
            return norm_of(given)
        norms, product = [], np.empty(BLOCK)
        with np.errstate(all="ignore"):
            for i, g in enumerate(given):
                for x, dx in () if g is None else blocks(parameters.numbers(i), g):
                    norms.append(_reduce.norm(np.multiply(x, dx, out=product[:x.size], dtype=np.float64)))
        return joined_norm(norms)

    def _keep(self, arrays, given):
        self._origin = [np.empty(a.shape, a.dtype) if o is None and g is not None else o
                        for o, a, g in zip(self._origin, arrays, given, strict=True)]
        self._moved = [i for i, g in enumerate(given) if g is not None]
        for i in self._moved:
            self._origin[i][...] = arrays[i]

    def _perturb(self, given, scale):
        signs = [-1.0 if group.get("maximize") else 1.0 for group in self.param_groups for _ in group["params"]]
        with np.errstate(all="ignore"):
            for i in self._moved:
                change = np.empty(min(BLOCK, given[i].size))    # double: neither x**2 nor g / |g| leaves its range
                half = self._known.is_half(i)                   # a master stays where it is
                theta = self._known.copy(i) if half else self._known.arrays[i]
                for x, dx in blocks(theta, given[i]):
                    e = np.multiply(dx, signs[i] * scale, out=change[:x.size], dtype=np.float64)
                    if self.adaptive:
                        np.multiply(np.multiply(e, x, out=e), x, out=e)
                    np.add(x, e, out=x, casting="same_kind")
                self._known.settle(i, theta)

    def _swap(self):
        for i in self._moved:
            exchange(self._known.bits[i], self._origin[i])

    def _own_state(self):
        kept = [o if self.perturbed and i in set(self._moved) else None for i, o in enumerate(self._origin)]
        return {"perturbed": self.perturbed, "left_out": self._left_out, "origin": copies(kept)}

    def _own_checked(self, state, parameters):
        perturbed, left_out = (flag(f"state[{key!r}]", state[key]) for key in ("perturbed", "left_out"))
        origin = checked_copies("origin", state["origin"], parameters.bits, all_of_them=False)
        return perturbed, left_out, origin

    def _take(self, own):
        self.perturbed, self._left_out, self._origin = own
        self._moved = [i for i, o in enumerate(self._origin) if o is not None]
