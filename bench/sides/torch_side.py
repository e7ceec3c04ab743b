"""PyTorch's optimizers, fused or foreach, on tensors of PyTorch's own memory."""

import harness
import torch

import optcore as oc

VERSION = f"PyTorch {torch.__version__}"
torch.set_num_threads(oc.get_num_threads())


def prepare(work, variant):
    params, grads = ([_tensor(a) for a in arrays] for arrays in work.data())
    for p, g in zip(params, grads, strict=True):
        p.requires_grad_().grad = g
    rule = Lion if work.rule == "Lion" else getattr(torch.optim, work.rule)
    step = rule(params, **work.options, **{variant: True}).step

    def clip_and_step():
        torch.nn.utils.clip_grad_norm_(params, work.clip_norm)
        step()

    def read():
        return [p.detach().float().numpy() for p in params]

    return harness.repeated(clip_and_step if work.clip_norm else step), read


def _tensor(array):
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view("int16")).view(torch.bfloat16).clone()
    return torch.from_numpy(array).clone()


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, in the manner of torch.optim's foreach rules, which have no Lion."""

    def __init__(self, params, lr, betas, weight_decay, foreach):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})
        self.params = self.param_groups[0]["params"]
        self.means = [torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def step(self):
        group = self.param_groups[0]
        lr, (b1, b2) = group["lr"], group["betas"]
        grads = [p.grad for p in self.params]
        torch._foreach_mul_(self.params, 1 - lr * group["weight_decay"])
        update = torch._foreach_lerp(self.means, grads, 1 - b1)
        torch._foreach_sign_(update)
        torch._foreach_add_(self.params, update, alpha=-lr)
        torch._foreach_lerp_(self.means, grads, 1 - b2)
