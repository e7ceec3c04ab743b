"""What a rule is: a row of data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Slot:
    """A state array of a rule.

    ``key`` is its name in ``state_dict`` (PyTorch's), ``stream`` its place among the kernel's arrays, ``when`` the
    option that asks for it (None: always), ``initial`` the option that fills it (None: zeros). A slot that
    ``restarts`` takes the next gradient as its first when it appears in mid-run. ``shape`` gives the array's shape from
    the parameter's, None for none. A ``factor`` belongs to the rows (``stream`` 0) or columns (1) of a matrix.
    ``codes``: whether 8-bit states keep it, as "signed" or "unsigned" codes (None: in the arithmetic's dtype).
    """

    key: str
    stream: int
    when: str | None = None
    initial: str | None = None
    restarts: bool = False
    shape: Callable[[tuple], tuple | None] = lambda shape: shape
    factor: bool = False
    codes: str | None = None


@dataclass(frozen=True)
class Scalar:
    """A number that a rule carries from step to step for each parameter, beside its arrays.

    ``key`` is its name in ``state_dict`` (PyTorch's), ``initial`` its value before the first step: a number, or the
    name of the option that is. Its place in ``Rule.scalars`` is its place in ``oc_coefficients.carried``.
    """

    key: str
    initial: float | str


@dataclass(frozen=True)
class Rule:
    """An update rule as data: the C kernel, the options with their defaults, the state, the constants it fixes.

    ``checks`` replaces entries of ``options.CHECKS``; ``check`` is given all checked options of a group together,
    ``check_shape`` the name and shape of a parameter. A ``layerwise`` rule looks at each array as a whole: the arrays
    are then the layers of a network, not one flat vector.
    """

    kernel: str
    options: Mapping
    slots: tuple[Slot, ...] = ()
    scalars: tuple[Scalar, ...] = ()
    checks: Mapping = field(default_factory=dict)
    constants: Mapping = field(default_factory=dict)
    check: Callable[[Mapping], None] = lambda group: None
    check_shape: Callable[[str, tuple], None] = lambda name, shape: None
    layerwise: bool = False
