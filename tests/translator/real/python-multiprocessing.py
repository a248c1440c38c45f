#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/bin/python3
# seconds: 60
import multiprocessing as mp
import os


def square(x):
    return x * x


def child(conn, value, lock):
    for _ in range(200):
        with lock:
            value.value += 1
    conn.send(os.getppid() == parent)
    conn.close()


if __name__ == "__main__":
    parent = os.getpid()
    mp.set_start_method("fork")
    with mp.Pool(3) as pool:
        print(sum(pool.map(square, range(300), chunksize=7)))
        print(pool.apply_async(square, (12,)).get(20))
    value, lock, ends = mp.Value("i", 0, lock=False), mp.Lock(), []
    for _ in range(3):
        a, b = mp.Pipe()
        p = mp.Process(target=child, args=(b, value, lock))
        p.start()
        ends.append((p, a))
    print([a.recv() for _, a in ends], [p.join() or p.exitcode for p, _ in ends], value.value)
    q = mp.Queue()
    p = mp.Process(target=lambda: [q.put(str(i) * 100) for i in range(50)])
    p.start()
    print(sum(len(q.get(timeout=20)) for _ in range(50)))
    p.join()
    with mp.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, [5, 6]))
    p = mp.Process(target=os.abort)
    p.start()
    p.join()
    print(p.exitcode)
