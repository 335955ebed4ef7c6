#!/usr/bin/python3
# vLLM with the arguments that it gets from its adapter: it loads, generates a few tokens, and ends.
import json
import subprocess
import sys
import time
import urllib.request

base = "http://127.0.0.1:" + sys.argv[sys.argv.index("--port") + 1]
server = subprocess.Popen(["/opt/vllm/bin/vllm", *sys.argv[1:]])
began = time.monotonic()
while True:
    if server.poll() is not None:
        sys.exit(server.returncode or 1)
    try:
        urllib.request.urlopen(base + "/health", timeout=5).close()
        break
    except OSError:
        time.sleep(1)
print("ready after %.0f s" % (time.monotonic() - began))
body = json.dumps({"model": "sandboxed", "prompt": "hello", "max_tokens": 16, "ignore_eos": True}).encode()
request = urllib.request.Request(base + "/v1/completions", body, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request, timeout=60))["usage"])
server.terminate()
server.wait(60)
