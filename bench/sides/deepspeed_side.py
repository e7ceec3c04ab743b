"""DeepSpeed's CPUAdam, where it is installed: it is compiled at its first use, which takes half a minute."""

import os
import sys
from pathlib import Path

import deepspeed
import harness
import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam

import optcore as oc

VERSION = f"DeepSpeed {deepspeed.__version__}"
torch.set_num_threads(oc.get_num_threads())
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it calls ninja


def prepare(work, variant):
    params, grads = ([torch.from_numpy(a).clone() for a in arrays] for arrays in work.data())
    for p, g in zip(params, grads, strict=True):
        p.requires_grad_().grad = g
    step = DeepSpeedCPUAdam(params, **work.options, adamw_mode=work.rule == "AdamW").step
    return harness.repeated(step), lambda: [p.detach().numpy() for p in params]
