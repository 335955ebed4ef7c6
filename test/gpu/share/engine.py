#!/usr/bin/env python3
"""A small engine on PyTorch, and probes of what CUDA needs. Each answer is one line of JSON.

engine.py hold --gib N           take N GiB of GPU memory and keep them until the process is ended
engine.py serve --port P ...     the same behind HTTP: /health, /generate, /crash
engine.py probe NAME             try one thing and exit: lines, devices, torch, expandable, triton, compile, nccl, gloo
"""
import argparse
import glob
import json
import os
import resource
import sys
import time

BEGAN = time.monotonic()


def say(**facts):
    facts.setdefault("pid", os.getpid())
    facts.setdefault("seconds", round(time.monotonic() - BEGAN, 3))
    facts.setdefault("peak_resident_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps(facts), flush=True)


def take(gib):
    """Takes so much of GPU 0, writes to it, and returns it with the facts."""
    import torch

    torch.zeros(1, device="cuda")  # the context
    held = torch.empty(int(gib * 2**30), dtype=torch.uint8, device="cuda")
    held.fill_(1)
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return held, dict(
        ok=True, taken_bytes=int(gib * 2**30), reserved_bytes=torch.cuda.memory_reserved(), free_bytes=free,
        total_bytes=total, gpus=torch.cuda.device_count())


def probe_devices():
    """Which GPUs CUDA sees, and which device nodes can be opened."""
    opened = []
    for node in sorted(glob.glob("/dev/nvidia[0-9]*")) + ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]:
        try:
            os.close(os.open(node, os.O_RDWR))
            opened.append(node)
        except OSError as e:
            if e.errno in (6, 19):  # ENXIO, ENODEV: the device policy let it pass
                opened.append(node)
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    uuid = "GPU-" + str(torch.cuda.get_device_properties(0).uuid) if count else ""
    say(ok=True, gpus=count, uuid=uuid, nodes=" ".join(opened))


def probe_lines():
    """Which calls the sandbox lets pass. What a line forbids must be absent, or the line has no effect here."""
    import ctypes
    import mmap
    import socket

    def executable(flags, fd=-1):
        mmap.mmap(fd, 4096, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()

    def in_shm():
        with open("/dev/shm/code", "w+b") as f:
            f.write(bytes(4096))
            f.flush()
            mmap.mmap(f.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()

    def closure():
        assert ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)() == 7

    def lock():
        memory = mmap.mmap(-1, 1 << 20)
        libc = ctypes.CDLL(None, use_errno=True)
        at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        if libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(1 << 20)) != 0:
            raise OSError(ctypes.get_errno(), "mlock")

    tries = {
        "write+execute": lambda: executable(mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), "libffi closures": closure,
        "code in /dev/shm": in_shm, "/proc/meminfo": lambda: open("/proc/meminfo").read(),
        "affinity": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
        "mlock": lock, "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
        "inet": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    }
    passed = []
    for name, attempt in tries.items():
        try:
            attempt()
            passed.append(name)
        except (OSError, MemoryError):
            pass
    say(ok=True, says=", ".join(passed))


def probe_compile():
    """What torch.compile makes of a function: C++ and Triton code, compiled and loaded when it runs."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    import torch

    f = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2 + 1)
    f(torch.ones(4096, device="cuda"))
    torch.cuda.synchronize()
    say(ok=True, says=torch.__version__)


def probe_torch():
    """Allocations, pinned memory, a matrix product against the CPU's, and two threads."""
    import torch

    a = torch.randn(512, 512)
    pinned = a.pin_memory()
    on = pinned.to("cuda", non_blocking=True)
    got = (on @ on).cpu()
    if not torch.allclose(got, a @ a, atol=1e-2, rtol=1e-2):
        raise RuntimeError("the GPU's product differs from the CPU's")
    say(ok=True, says=torch.__version__, gpus=torch.cuda.device_count())


def probe_expandable():
    """Virtual memory management, as PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True has it."""
    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    import torch

    held = [torch.ones(64 << 20, dtype=torch.uint8, device="cuda") for _ in range(4)]
    torch.cuda.synchronize()
    say(ok=True, taken_bytes=sum(len(h) for h in held))


def probe_triton():
    """A kernel that Triton compiles when it runs."""
    import torch
    import triton
    from kernel import add

    x = torch.ones(4096, device="cuda")
    out = torch.empty_like(x)
    add[(4,)](x, out, 4096, BLOCK=1024)
    torch.cuda.synchronize()
    if not bool((out == 2).all()):
        raise RuntimeError("the kernel computed something else")
    say(ok=True, says=triton.__version__)


def distributed(backend, device):
    import torch
    import torch.distributed as dist

    port = 29500 + os.getpid() % 1000
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    x = torch.ones(8, device=device)
    dist.all_reduce(x)
    if device == "cuda":
        torch.cuda.synchronize()
    dist.destroy_process_group()
    say(ok=True)


def probe_nccl():
    """A process group of one GPU, as vLLM and SGLang make one."""
    distributed("nccl", "cuda")


def probe_gloo():
    """A process group on the CPU beside it."""
    distributed("gloo", "cpu")


def serve(o):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    held, facts = (bytes(1024), dict(ok=True)) if o.cpu else take(o.gib)
    say(**facts)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body):
            text = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            if self.path == "/crash":
                os._exit(7)
            self.answer(dict(facts, pid=os.getpid(), ok=True))

        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.answer({"ok": True, "sum": sum(held[:1024]) if o.cpu else int(held[:1024].sum())})

        def log_message(self, *args):
            pass

    ThreadingHTTPServer((o.host, o.port), Handler).serve_forever()


def probe(attempt):
    """Runs one probe. The reason why it failed is the last line, without what destructors say after it."""
    try:
        attempt()
    except Exception as e:
        import traceback

        traceback.print_exc()
        last = str(e).strip().splitlines() or [""]
        print(f"{type(e).__name__}: {last[-1]}", file=sys.stderr, flush=True)
        os._exit(1)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["hold", "serve", "probe"])
    p.add_argument("name", nargs="?")
    p.add_argument("--gib", type=float, default=1)
    p.add_argument("--cpu", action="store_true", help="serve without a GPU")
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8000)
    o = p.parse_args()
    if o.what == "probe":
        return probe(globals()["probe_" + o.name])
    if o.what == "serve":
        return serve(o)
    held, facts = take(o.gib)
    say(**facts)
    while held is not None:
        time.sleep(60)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
