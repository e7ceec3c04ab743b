"""PyTorch modules as objectives: what the analyses of the library see of them."""

import copy
import math

import numpy as np

from optcore.batched import BatchedObjective
from optcore.objective import LayerState, Variant, filters_of

__all__ = ["objective"]


def objective(module, loss_fn, X, y, *, mode=None, batch_size=None, memory=2**30):
    """Return the loss of a PyTorch module over a data set as a function of its flat parameter vector.

    theta is `module.parameters()` in a row, as `torch.nn.utils.parameters_to_vector` gives it. The module is never
    changed: it runs on views into theta, without a copy, and on copies of its buffers.

    Parameters
    ----------
    module : torch.nn.Module
        On the CPU, its parameters float32 or float64, all of one dtype.
    loss_fn : callable
        ``loss_fn(output, y) -> 0-d tensor``, the mean over the examples (as `torch.nn.functional.cross_entropy` is).
    X, y : tensor or array [N, ...]
        Arrays are not copied; a `numpy.memmap` is read batch by batch.
    mode : {"train", "eval"}, optional
        Of the module while it runs; None for the one that it is in. PyTorch's generator begins each pass at one state
        and is put back: dropout takes one mask, and the loss is a function of theta.
    batch_size : int, optional
        Examples in one pass; None for all of them.
    memory : int
        Bytes for the graphs kept from one product to the next where there is more than one batch; a graph is taken
        to hold the activations of the modules, twice.

    Returns
    -------
    Objective
        `hvp` is exact, by double backward through a graph that is kept as long as theta and the batch stay. So are
        `gauss_newton` and `fisher` (for the latter no example may change another's output, as batch norm in
        training mode lets them).

    Raises
    ------
    ModuleNotFoundError
        PyTorch is not installed.
    TypeError, ValueError
        If an argument is none of the above.

    Examples
    --------
    >>> import numpy as np, torch, optcore as oc
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> obj = oc.torch.objective(model, torch.nn.functional.mse_loss, np.eye(2), np.zeros((2, 1)))
    >>> obj.loss(np.array([1.0, 3.0])), obj.hvp(np.array([1.0, 3.0]), np.array([1.0, 0.0]))  # (a^2 + b^2) / 2
    (5.0, array([1., 0.]))
    """
    return TorchObjective(module, loss_fn, X, y, mode, batch_size, memory)


class TorchObjective(BatchedObjective):
    """What `objective` returns; see there."""

    def __init__(self, module, loss_fn, X, y, mode, batch_size, memory):
        import torch

        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"module: expected a torch.nn.Module, got {type(module).__name__}")
        if not callable(loss_fn):
            raise TypeError(f"loss_fn: expected a callable, got {type(loss_fn).__name__}")
        if mode not in (None, "train", "eval"):
            raise ValueError(f'mode: expected "train" or "eval", got {mode!r}')
        params = dict(module.named_parameters())
        kinds = sorted({str(p.dtype) for p in params.values()})
        if kinds not in (["torch.float32"], ["torch.float64"]):
            raise TypeError(f"module: expected parameters of one dtype, float32 or float64, got {kinds or 'none'}")
        for name, data in (("X", X), ("y", y)):
            if not getattr(data, "ndim", 0) or not hasattr(data, "dtype"):
                raise TypeError(f"{name}: expected a tensor or an array with one row per example, got "
                                f"{type(data).__name__}")
        if len(X) != len(y):
            raise ValueError(f"y: expected {len(X)} targets, one per example, got {len(y)}")
        self._torch, self._module, self._loss_fn = torch, module, loss_fn
        self._shapes = {name: p.shape for name, p in params.items()}
        self._x, self._y, self._options = X, y, (batch_size, memory)
        self._random = torch.Generator().manual_seed(0).get_state()
        self.mode = mode or ("train" if module.training else "eval")
        theta0 = torch.cat([p.detach().reshape(-1) for p in params.values()]).numpy()
        super().__init__(theta0, len(X), batch_size, memory)

    def place_of(self, tensor):
        """Return where a parameter of the module begins in theta, or None if it is none."""
        start = 0
        for p in self._module.parameters():
            if p is tensor:
                return start
            start += p.numel()
        return None

    def _output(self, theta, rows):
        """(flat parameters, outputs, targets): the graph begins at the flat tensor, which shares theta's memory."""
        torch, module = self._torch, self._module
        flat = torch.from_numpy(theta).requires_grad_()
        pieces = torch.split(flat, [shape.numel() for shape in self._shapes.values()])
        params = {name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)}
        buffers = {name: b.clone() for name, b in module.named_buffers()}
        x, y = self._rows(self._x, rows, flat.dtype), self._rows(self._y, rows, flat.dtype)
        modes = {m: m.training for m in module.modules()}
        module.train(self.mode == "train")
        random = torch.random.default_generator
        before = random.get_state()
        random.set_state(self._random)
        try:
            return flat, torch.func.functional_call(module, {**params, **buffers}, (x,)), y
        finally:
            random.set_state(before)
            for m, training in modes.items():
                m.training = training

    def _rows(self, data, rows, dtype):
        tensor = data[rows] if isinstance(data, self._torch.Tensor) else self._torch.from_numpy(_writable(data[rows]))
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    def _value(self, theta, rows):
        with self._torch.no_grad():
            _, z, y = self._output(theta, rows)
            return float(self._loss_of(z, y))

    def _loss_of(self, z, y):
        loss = self._loss_fn(z, y)
        if not isinstance(loss, self._torch.Tensor) or loss.numel() != 1:
            shape = f" of shape {tuple(loss.shape)}" if isinstance(loss, self._torch.Tensor) else ""
            raise ValueError(f"loss_fn: expected a scalar tensor, the mean over the examples, got a "
                             f"{type(loss).__name__}{shape}")
        return loss

    def _evaluate(self, theta, rows):
        flat, z, y = self._output(theta, rows)
        loss = self._loss_of(z, y)
        grad = self._torch.autograd.grad(loss, flat, create_graph=True)[0]
        return float(loss.detach()), grad.detach().numpy(), (flat, z, loss, grad)

    def _products(self, state, vs, kind):
        return [self._product(*state, self._torch.from_numpy(v), kind).detach().numpy() for v in vs]

    def _product(self, flat, z, loss, grad, v, kind):
        return self._derivative(grad, flat, v) if kind == "hvp" else self._sandwich(flat, z, loss, v, kind)

    def _sandwich(self, flat, z, loss, v, kind):
        """J' M J v; J v as the derivative of u -> J'u, which is linear (double backward)."""
        u = self._torch.zeros_like(z, requires_grad=True)
        pulled = self._torch.autograd.grad(z, flat, u, create_graph=True)[0]
        jv = self._derivative(pulled, u, v)
        dz = self._torch.autograd.grad(loss, z, create_graph=True)[0]
        if kind == "gauss_newton":
            middle = self._derivative(dz, z, jv)
        else:
            slopes = len(z) * (dz * jv).reshape(len(z), -1).sum(1)
            middle = dz * slopes.reshape(len(z), *[1] * (z.ndim - 1))
        return self._torch.autograd.grad(z, flat, middle.detach(), retain_graph=True)[0]

    def _derivative(self, y, x, v):
        """(dy/dx)' v, zeros where y does not depend on x."""
        if not y.requires_grad:
            return self._torch.zeros_like(x)
        return self._torch.autograd.grad(y, x, v, retain_graph=True, materialize_grads=True)[0]

    def filters(self):
        """Return (start, stop) in theta of each filter; see `optcore.Objective.filters`."""
        starts = np.cumsum([0, *(shape.numel() for shape in self._shapes.values())])
        return filters_of((int(start), tuple(shape)) for start, shape in
                          zip(starts, self._shapes.values(), strict=False))

    def variants(self, theta, seed=0):
        """Return the module with weights drawn anew, of all layers and of each, and with ReLU for what saturates.

        What saturates are modules (`torch.nn.Sigmoid`, `torch.nn.Tanh`) before the last layer: one behind it belongs
        to the loss. Layers are modules with a matrix ``weight``.
        """
        nn = self._torch.nn
        saturating = self._saturating(theta)
        scheme = "xavier_uniform" if saturating else "kaiming_uniform"
        layers = [name.rpartition(".")[0] for name, shape in self._shapes.items()
                  if name.rpartition(".")[2] == "weight" and len(shape) > 1]
        found = [Variant(f"weights drawn by {scheme}, biases 0", self, self._redrawn(theta, scheme, seed, layers))]
        found += [Variant(f"weights of layer {name or '0'} drawn by {scheme}, its bias 0", self,
                          self._redrawn(theta, scheme, seed, [name]), name or "0") for name in layers]
        if saturating:
            other = TorchObjective(_with_relu(self._module, saturating, nn), self._loss_fn, self._x, self._y,
                                   self.mode, *self._options)
            found.append(Variant("ReLU in place of each saturating activation", other, theta.copy()))
        return tuple(found)

    def _saturating(self, theta):
        """The names of the modules that saturate, and run before the last layer only."""
        nn, order = self._torch.nn, []
        hooks = [m.register_forward_hook(lambda _m, _x, _out, name=name: order.append(name))
                 for name, m in self._module.named_modules()]
        try:
            with self._torch.no_grad():
                self._output(theta.copy(), slice(0, min(2, self.n_examples)))
        finally:
            for hook in hooks:
                hook.remove()
        modules = dict(self._module.named_modules())
        last = max((i for i, name in enumerate(order) if _is_layer(modules[name])), default=0)
        return {name for name in order[:last] if isinstance(modules[name], nn.Sigmoid | nn.Tanh)} - set(order[last:])

    def _redrawn(self, theta, scheme, seed, layers):
        """theta with these layers at a new start: weights drawn by a generator of their own, biases 0."""
        theta, draw = theta.copy(), getattr(self._torch.nn.init, f"{scheme}_")
        options = {"nonlinearity": "relu"} if scheme == "kaiming_uniform" else {}
        options["generator"] = self._torch.Generator().manual_seed(seed)
        pieces = self._torch.split(self._torch.from_numpy(theta), [s.numel() for s in self._shapes.values()])
        for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True):
            layer, _, what = name.rpartition(".")
            if layer in layers and what == "weight":
                draw(piece.view(shape), **options)
            elif layer in layers:
                piece.zero_()
        return theta

    def layers(self, theta, batch=None):
        """Return how the gradient reaches each module that has a matrix of weights; see `optcore.Objective.layers`.

        Pre-activations are what goes into a module of `torch.nn.modules.activation`, else what a module of weights
        and a normalization behind it put out: activations that are called as functions are not seen, and dead units
        behind one that works in place neither.
        """
        theta, batch = self.check_theta(theta), self.check_batch(batch)
        found = {}
        for rows, share in self._parts(batch):
            for name, state, alive in self._signals(theta, rows, share):
                found.setdefault(name, []).append((state, alive))
        return [self._joined(name, parts) for name, parts in found.items()] or None

    def _signals(self, theta, rows, share):
        """(name, (squared gradients of weights and signal), which units answer) of each layer over some examples."""
        torch, blocks = self._torch, []

        def seen(name, module):
            def hook(_module, args, out):
                if not isinstance(out, torch.Tensor):
                    return
                weight = getattr(module, "weight", None)
                if _is_layer(module):
                    blocks.append({"name": name, "out": out, "slope": None})
                elif blocks and type(module).__module__ == "torch.nn.modules.activation":
                    if blocks[-1]["slope"] is None and out.requires_grad and not getattr(_module, "inplace", False):
                        ones = torch.ones_like(out)
                        blocks[-1]["slope"] = torch.autograd.grad(out, args[0], ones, retain_graph=True)[0]
                elif blocks and weight is not None and blocks[-1]["slope"] is None:
                    blocks[-1]["out"] = out
            return hook

        hooks = [m.register_forward_hook(seen(name, m)) for name, m in self._module.named_modules()
                 if not any(True for _ in m.children())]
        try:
            flat, z, y = self._output(theta, rows)
        finally:
            for hook in hooks:
                hook.remove()
        grads = torch.autograd.grad(self._loss_of(z, y), [flat, *(b["out"] for b in blocks)], allow_unused=True)
        pieces = torch.split(grads[0], [s.numel() for s in self._shapes.values()])
        weights = dict(zip(map(id, self._module.parameters()), pieces, strict=True))  # one may be that of two layers
        for block, signal in zip(blocks, grads[1:], strict=True):
            name, slope = block["name"], block["slope"]
            own = self._module.get_submodule(name).named_parameters(recurse=False)
            weight = torch.cat([weights[id(p)] for key, p in own if "bias" not in key])
            size = 0.0 if signal is None else share * float(signal.double().norm())
            alive = None if slope is None else (slope != 0).transpose(0, min(1, slope.ndim - 1)).flatten(1).any(1)
            yield name or "0", (share * weight, size**2), alive

    def _joined(self, name, parts):
        weight = sum(state[0].double() for state, _ in parts)
        alive = [a for _, a in parts if a is not None]
        dead = 1 - float(sum(a.double() for a in alive).clamp(max=1).mean()) if alive else math.nan
        return LayerState(name, float(weight.norm()), math.sqrt(sum(state[1] for state, _ in parts)), dead)

    def _bytes(self, state):
        z = state[1]
        return 2 * len(z) * self._bytes_per_example

    @property
    def _bytes_per_example(self):
        """Of the outputs of all modules, counted once by running the first example."""
        if not hasattr(self, "_counted"):
            sizes = []
            hooks = [m.register_forward_hook(lambda _m, _x, out: sizes.append(getattr(out, "nbytes", 0) / 2))
                     for m in self._module.modules()]
            try:
                with self._torch.no_grad():
                    self._output(self.theta0.copy(), slice(0, min(2, self.n_examples)))
            finally:
                for hook in hooks:
                    hook.remove()
            self._counted = sum(sizes)
        return self._counted


def _is_layer(module):
    weight = getattr(module, "weight", None)
    return weight is not None and weight.ndim > 1


def _with_relu(module, names, nn):
    """A copy of a module in which ReLU is in place of the modules of these names."""
    module = copy.deepcopy(module)
    replaced = {module.get_submodule(name) for name in names}
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if child in replaced:
            module.set_submodule(name, nn.ReLU())
    return module


def _writable(array):
    """What torch.from_numpy takes without a warning: a read-only array (a memory map) is copied."""
    array = np.ascontiguousarray(array)
    return array if array.flags.writeable else array.copy()
