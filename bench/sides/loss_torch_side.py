"""PyTorch's cross-entropy: the operators that it and its backward pass reach, or the calls of a user ("autograd")."""

import harness
import torch

import optcore as oc

VERSION = f"PyTorch {torch.__version__}"
torch.set_num_threads(oc.get_num_threads())
aten = torch.ops.aten


def prepare(work, variant):
    z, target = map(torch.from_numpy, work.data())
    one = torch.ones(())
    leaf = z.clone().requires_grad_()

    def operators():
        log_p = aten._log_softmax(z, 1, False)
        loss, weight = aten.nll_loss_forward(log_p, target, None, 1, -100)
        d_log_p = aten.nll_loss_backward(one, log_p, target, None, 1, -100, weight)
        return loss, aten._log_softmax_backward_data(d_log_p, log_p, 1, torch.float32)

    def autograd():
        leaf.grad = None
        loss = torch.nn.functional.cross_entropy(leaf, target)
        loss.backward()
        return loss.detach(), leaf.grad

    step = autograd if variant == "autograd" else operators
    return harness.repeated(step), step
