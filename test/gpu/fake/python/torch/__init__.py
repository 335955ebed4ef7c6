"""A stand-in of PyTorch, for a trial without a GPU: memory is taken from the fake driver (test/fakegpu) over its socket."""

from . import cuda, distributed  # noqa: F401

__version__ = "0.0-fake"
uint8 = "uint8"


class Tensor:
    def __init__(self, size, device="cpu", held=None):
        self.size, self.held = size, held

    def fill_(self, value):
        return self

    def pin_memory(self):
        return self

    def to(self, device, non_blocking=False):
        cuda.context()
        return self

    def cpu(self):
        return self

    def all(self):
        return True

    def sum(self):
        return 1024

    def __eq__(self, other):
        return self

    def __matmul__(self, other):
        return self

    def __getitem__(self, at):
        return self

    def __len__(self):
        return self.size


def empty(size, dtype=None, device="cpu"):
    held = cuda.take(size) if device == "cuda" else None
    return Tensor(size, device, held)


def empty_like(other):
    return other


def zeros(size, dtype=None, device="cpu"):
    if device == "cuda":
        cuda.context()
    return Tensor(size, device)


def ones(size, dtype=None, device="cpu"):
    return empty(size, dtype, device)


def randn(*size):
    return Tensor(size[0])


def allclose(a, b, atol=0, rtol=0):
    return True
