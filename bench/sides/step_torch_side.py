"""PyTorch's training step: eager, Adam fused."""

import torch
from work import LeNet

import optcore as oc

VERSION = f"PyTorch {torch.__version__}"
torch.set_num_threads(oc.get_num_threads())


def le_net(work):
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
                          nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
                          nn.Linear(84, 10))
    with torch.no_grad():
        for p, start in zip(model.parameters(), (a for pair in work.start() for a in pair), strict=True):
            p.copy_(torch.from_numpy(start))
    return model


def dense(work):
    layers = []
    for i, (weight, bias) in enumerate(work.start()):
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [linear]
        if i + 2 < len(work.sizes):
            layers += [torch.nn.BatchNorm1d(len(bias)), torch.nn.ReLU()] if work.batch_norm else [torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def prepare(work, variant):
    model = le_net(work) if isinstance(work, LeNet) else dense(work)
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
