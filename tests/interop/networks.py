"""The networks that are compared with PyTorch: every layer, in every position that matters."""

import numpy as np
import torch
from dropout_mask import kept

from optcore import nn

NETS = {
    "mlp": ((7,), [nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 4)]),
    "batch norm": ((7,), [nn.Linear(7, 9), nn.BatchNorm(9), nn.ReLU(), nn.Linear(9, 4)]),
    "batch norm first": ((6,), [nn.BatchNorm(6), nn.Linear(6, 5, bias=False), nn.Sigmoid(), nn.Linear(5, 3)]),
    "batch norm last": ((6,), [nn.Linear(6, 5), nn.ELU(0.7), nn.Linear(5, 3), nn.BatchNorm(3, eps=1e-3)]),
    "images": ((3, 4, 5), [nn.BatchNorm(3, momentum=None), nn.ELU(), nn.Flatten(), nn.Linear(60, 4)]),
    "layer norm": ((7,), [nn.Linear(7, 9), nn.LayerNorm(9), nn.ReLU(), nn.Linear(9, 4),
                          nn.LayerNorm(4, affine=False)]),
    "rms norm": ((4, 3), [nn.RMSNorm((4, 3), eps=1e-3), nn.Flatten(), nn.Linear(12, 6), nn.RMSNorm(6),
                          nn.Linear(6, 3)]),
    "group norm": ((6,), [nn.Linear(6, 8), nn.GroupNorm(2, 8), nn.Tanh(), nn.Linear(8, 6),
                          nn.GroupNorm(2, 6, affine=False)]),
    "group norm of images": ((6, 3, 2), [nn.GroupNorm(3, 6), nn.ELU(), nn.GroupNorm(1, 6), nn.Flatten(),
                                         nn.Linear(36, 3)]),
    "instance norm": ((3, 4, 5), [nn.InstanceNorm(3, affine=True), nn.Tanh(), nn.LayerNorm((4, 5)), nn.InstanceNorm(3),
                                  nn.Flatten(), nn.Linear(60, 4)]),
    "gelu": ((6,), [nn.Linear(6, 7), nn.GELU(), nn.Linear(7, 5), nn.GELU("tanh"), nn.Linear(5, 4)]),
    "silu": ((6,), [nn.SiLU(), nn.Linear(6, 7), nn.BatchNorm(7), nn.SiLU(), nn.Linear(7, 4), nn.SiLU()]),
    "convolution": ((2, 6, 5), [nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm(3), nn.Tanh(), nn.MaxPool2d(2),
                                nn.Conv2d(3, 4, (2, 1), bias=False), nn.Flatten(), nn.Linear(16, 4)]),
    "strides": ((2, 9, 8), [nn.AvgPool2d((2, 3), stride=(2, 1), padding=1), nn.Conv2d(2, 3, (2, 3), stride=(1, 2),
                                                                                      padding=(2, 1)),
                            nn.SiLU(), nn.MaxPool2d(3, stride=2, padding=1), nn.Flatten(), nn.Linear(24, 3)]),
    "pools first and last": ((3, 8, 6), [nn.MaxPool2d((2, 1)), nn.AvgPool2d(2, stride=1), nn.Conv2d(3, 4, 1, stride=2),
                                         nn.AvgPool2d(2), nn.Flatten()]),
    "dropout": ((6,), [nn.Dropout(0.2), nn.Linear(6, 9), nn.Tanh(), nn.Dropout(), nn.Linear(9, 4)]),
    "residual": ((5,), [nn.Linear(5, 6), nn.Residual(nn.Linear(6, 7), nn.BatchNorm(7), nn.ReLU(), nn.Linear(7, 6)),
                        nn.Residual(nn.Dropout(0.3), nn.Tanh()), nn.Linear(6, 3)]),
    "residual first": ((2, 4, 4), [nn.Residual(nn.Conv2d(2, 3, 3, padding=1), nn.Residual(nn.ELU(), nn.Conv2d(3, 3, 1)),
                                               nn.Conv2d(3, 2, 3, padding=1)), nn.AvgPool2d(2), nn.Flatten()]),
    "activation first": ((5,), [nn.Tanh(), nn.Linear(5, 3), nn.BatchNorm(3, momentum=0.3), nn.Tanh()]),
}


class Dropout(torch.nn.Module):
    """With the library's random numbers, from another program."""

    def __init__(self, p):
        super().__init__()
        self.p = p
        self.register_buffer("seed", torch.tensor(0))
        self.register_buffer("num_passes", torch.tensor(0))

    def forward(self, x):
        if not self.training:
            return x
        mask = kept(self.p, int(self.seed), int(self.num_passes), x.numel()).reshape(x.shape)
        self.num_passes += 1
        return x * torch.tensor(mask) / (1 - self.p)


class Residual(torch.nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def torch_layer(layer, op):
    ndim = len(op.in_shape)
    match layer:
        case nn.Conv2d():
            return torch.nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                                   layer.padding, bias=layer.bias)
        case nn.MaxPool2d():
            return torch.nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
        case nn.AvgPool2d():
            return torch.nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
        case nn.Dropout():
            return Dropout(layer.p)
        case nn.Residual():
            return Residual(*map(torch_layer, layer.layers, op.options["program"].ops))
        case nn.Linear():
            return torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
        case nn.BatchNorm():
            kind = torch.nn.BatchNorm1d if ndim == 1 else torch.nn.BatchNorm2d
            return kind(layer.features, eps=layer.eps, momentum=layer.momentum)
        case nn.LayerNorm():
            return torch.nn.LayerNorm(layer.shape, eps=layer.eps, elementwise_affine=layer.affine)
        case nn.RMSNorm():
            return torch.nn.RMSNorm(layer.shape, eps=layer.eps, elementwise_affine=layer.affine)
        case nn.GroupNorm():
            return torch.nn.GroupNorm(layer.num_groups, layer.features, eps=layer.eps, affine=layer.affine)
        case nn.InstanceNorm():
            return torch.nn.InstanceNorm2d(layer.features, eps=layer.eps, affine=layer.affine)
        case nn.ReLU():
            return torch.nn.ReLU()
        case nn.ELU():
            return torch.nn.ELU(layer.alpha)
        case nn.GELU():
            return torch.nn.GELU(layer.approximate)
        case nn.SiLU():
            return torch.nn.SiLU()
        case nn.Sigmoid():
            return torch.nn.Sigmoid()
        case nn.Tanh():
            return torch.nn.Tanh()
        case nn.Flatten():
            return torch.nn.Flatten()


def pair(name, dtype="float64", seed=3):
    """A network whose parameters are all away from their special starting values, and PyTorch's, by name."""
    shape, layers = NETS[name]
    net = nn.Sequential(*layers, dtype=dtype, seed=seed, input_shape=shape)
    rng = np.random.default_rng(seed)
    net.theta += 0.3 * rng.standard_normal(net.theta.size)
    for b in net.buffers.values():
        b[...] = 4 if b.dtype == np.int64 else rng.uniform(0.5, 2, b.shape)
    ops = zip(layers, net.program.ops, strict=True)
    other = torch.nn.Sequential(*[torch_layer(layer, op) for layer, op in ops]).double()
    state = {key: torch.tensor(a) for key, a in {**net.parameters, **net.buffers}.items()}
    other.load_state_dict(state)
    x = rng.standard_normal((17, *shape))
    k = net.program.out_shape[0]
    return net, other, x, {"classes": rng.integers(0, k, 17), "weights": rng.uniform(0, 1, (17, k)),
                           "values": rng.standard_normal((17, k))}


def torch_loss(y, target, loss):
    f = torch.nn.functional.cross_entropy if loss == "cross_entropy" else torch.nn.functional.mse_loss
    return f(y, torch.tensor(target))


LOSSES = [("cross_entropy", "classes"), ("cross_entropy", "weights"), ("mse", "values")]
