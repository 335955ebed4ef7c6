import psutil
print(psutil.virtual_memory().total, psutil.cpu_count(), psutil.cpu_percent(), psutil.Process().memory_info().rss)
psutil.net_if_addrs()
