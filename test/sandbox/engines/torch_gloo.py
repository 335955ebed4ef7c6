# The process group that vLLM makes for a single device, too.
import os
os.environ["USE_LIBUV"] = "0"  # Debian builds PyTorch without it
import torch
import torch.distributed as dist
dist.init_process_group("gloo", init_method="tcp://127.0.0.1:29517", rank=0, world_size=1)
x = torch.ones(4)
dist.all_reduce(x)
assert x.sum().item() == 4
dist.destroy_process_group()
