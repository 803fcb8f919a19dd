"""A process of several that save one model: ``python distributed_save.py RANK PROCESSES PORT FOLDER LAYERS HIDDEN``."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor


def main() -> None:
    """Gains cut along their only axis, as FSDP cuts them; weights along the second, as tensor parallelism does."""
    rank, processes, port, folder, layers, hidden = sys.argv[1:]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": processes}
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (int(processes),))
    rng = torch.Generator().manual_seed(0)
    model, moments = {}, {}
    for layer in range(int(layers)):
        gain = torch.randn(int(hidden), generator=rng).bfloat16()
        wide = torch.randn(4, int(hidden), generator=rng)
        name = f"model.layers.{layer}."
        model[f"{name}input_layernorm.weight"] = distribute_tensor(gain, mesh, [Shard(0)])
        model[f"{name}self_attn.q_proj.weight"] = distribute_tensor(wide, mesh, [Shard(1)])
        model[f"{name}self_attn.k_proj.weight"] = distribute_tensor(wide + 1, mesh, [Shard(0)])
        model[f"{name}post_attention_layernorm.weight"] = distribute_tensor(2 * gain, mesh, [Replicate()])
        moments[f"{name}input_layernorm.weight"] = {"exp_avg": distribute_tensor(gain * 0 + 9, mesh, [Shard(0)])}
    state = {"model": model, "optim": {"state": moments, "param_groups": [{"lr": 0.1}]}, "step": 7}
    dcp.save(state, checkpoint_id=folder)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
