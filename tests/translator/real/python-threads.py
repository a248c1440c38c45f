#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/bin/python3
# seconds: 60
import concurrent.futures
import hashlib
import queue
import signal
import sys
import threading
import time

sys.setswitchinterval(0.001)
total, lock = 0, threading.Lock()


def add(n):
    global total
    for _ in range(n):
        with lock:
            total += 1


threads = [threading.Thread(target=add, args=(3000,)) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total)
q, out = queue.Queue(4), []
t = threading.Thread(target=lambda: [out.append(q.get()) for _ in range(500)])
t.start()
[q.put(i * i) for i in range(500)]
t.join()
print(sum(out))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda i: hashlib.sha256(bytes([i]) * 200000).hexdigest()[:8], range(8))))
for _ in range(200):
    t = threading.Thread(target=lambda: None)
    t.start()
    t.join()
print(threading.active_count())
hits = []
signal.signal(signal.SIGALRM, lambda *a: hits.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    sum(range(1000))
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(hits) > 10)
e = threading.Event()
threading.Timer(0.1, e.set).start()
print(e.wait(5), threading.Event().wait(0.05))
threading.stack_size(256 * 1024)
local = threading.local()
local.x = 1
threading.Thread(target=lambda: print(hasattr(local, "x"))).start()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("exits with a thread running")
