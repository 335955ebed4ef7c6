# Processes that share memory and a queue, as engines with several workers do.
import multiprocessing
from multiprocessing import shared_memory


def work(name, queue):
    block = shared_memory.SharedMemory(name=name)
    queue.put(block.buf[0])
    block.close()


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    block = shared_memory.SharedMemory(create=True, size=1 << 20)
    block.buf[0] = 7
    queue = multiprocessing.Queue()
    worker = multiprocessing.Process(target=work, args=(block.name, queue))
    worker.start()
    assert queue.get(timeout=30) == 7
    worker.join()
    block.close()
    block.unlink()
