"""PyTorch's training step: eager, Adam fused."""

import torch

import optcore as oc

VERSION = f"PyTorch {torch.__version__}"
torch.set_num_threads(oc.get_num_threads())


def prepare(work, variant):
    layers = []
    for i, (weight, bias) in enumerate(work.start()):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear]
        if i + 2 < len(work.sizes):
            layers += [torch.nn.BatchNorm1d(len(bias)), torch.nn.ReLU()] if work.batch_norm else [torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers)
    opt = torch.optim.Adam(model.parameters(), lr=work.lr, fused=True)
    X, y = map(torch.from_numpy, work.data())
    batches = list(zip(X.split(work.batch), y.split(work.batch), strict=True))

    def run(count):
        for i in range(count):
            x, target = batches[i % len(batches)]
            opt.zero_grad()
            torch.nn.functional.cross_entropy(model(x), target).backward()
            opt.step()

    return run, lambda: [p.detach().numpy() for p in model.parameters()]
