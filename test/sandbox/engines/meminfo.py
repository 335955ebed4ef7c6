# What psutil reads of the host's memory, with the standard library alone.
print(open("/proc/meminfo").readline())
