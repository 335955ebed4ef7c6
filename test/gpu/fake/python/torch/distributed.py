def init_process_group(backend, init_method, rank, world_size):
    from . import cuda

    if backend == "nccl":
        cuda.context()


def all_reduce(tensor):
    pass


def destroy_process_group():
    pass
