import json
import os
import socket

DIR = os.environ.get("FAKENVML_DIR", "/run/fakegpu")
CONTEXT = 512 << 20  # what a process of CUDA has beside its tensors
taken = 0
connections = []


class OutOfMemoryError(RuntimeError):
    pass


def gpus():
    """The UUIDs and totals of the GPUs of the mask."""
    all = []
    for line in open(DIR + "/state"):
        key, _, value = line.strip().partition(" ")
        if key == "uuid":
            all.append([value, 0])
        elif key == "memory" and all:
            all[-1][1] = int(value.split()[0])
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    if mask is None:
        return all
    seen = []
    for entry in mask.split(","):
        match = [g for i, g in enumerate(all) if g[0] == entry or str(i) == entry]
        if not match:
            break  # as CUDA does: what follows an invalid entry is not visible
        seen += match
    return seen


def request(size):
    uuid = gpus()[0][0]
    s = socket.socket(socket.AF_UNIX)
    s.connect(DIR + "/take.sock")
    s.sendall((json.dumps({uuid: size}) + "\n").encode())
    said = s.makefile().readline().strip()
    if said != "ok":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate %.2f GiB. GPU 0 has less free (%s)." % (size / 2**30, said))
    connections.append(s)


def context():
    if not gpus():
        raise RuntimeError("No CUDA GPUs are available")
    try:
        os.close(os.open("/dev/nvidia0", os.O_RDWR))
    except OSError as e:
        if e.errno in (1, 13):
            raise RuntimeError("CUDA error: the device policy refuses /dev/nvidia0")
    if not connections:
        request(CONTEXT)


def take(size):
    global taken
    context()
    if size:
        request(size)
    taken += size
    return size


def synchronize():
    pass


def is_available():
    return bool(gpus())


def device_count():
    return len(gpus())


def memory_reserved():
    return taken


def mem_get_info():
    total = gpus()[0][1]
    return total - taken, total


def get_device_properties(index):
    class Properties:
        uuid = gpus()[index][0][len("GPU-"):]

    return Properties
