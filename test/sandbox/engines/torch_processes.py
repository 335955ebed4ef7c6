# Two ranks that find each other by the host's name, and pass tensors by shared memory.
import os
import socket
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def rank(n, queue):
    os.environ.update(MASTER_ADDR=socket.gethostname(), MASTER_PORT="29518", GLOO_SOCKET_IFNAME="lo", USE_LIBUV="0")
    dist.init_process_group("gloo", rank=n, world_size=2)
    x = torch.ones(4)
    dist.all_reduce(x)
    if n == 1:
        queue.put(x)
        queue.join()
    dist.barrier()


if __name__ == "__main__":
    mp.set_start_method("spawn")
    queue = mp.JoinableQueue()
    ranks = [mp.Process(target=rank, args=(n, queue)) for n in range(2)]
    for r in ranks:
        r.start()
    assert queue.get(timeout=60).sum().item() == 8
    queue.task_done()
    for r in ranks:
        r.join()
        assert r.exitcode == 0
