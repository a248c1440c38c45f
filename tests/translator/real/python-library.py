#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/bin/python3
import ast
import asyncio
import bz2
import ctypes
import decimal
import hashlib
import json
import lzma
import math
import mmap
import os
import pickle
import random
import re
import select
import socket
import sqlite3
import struct
import zlib

text = open(os.environ["WORDS"]).read()
print(json.loads(json.dumps({"a": [1, 2.5, None, True], "b": text[:50]})))
for h in ("md5", "sha1", "sha512", "blake2b", "sha3_256"):
    print(h, hashlib.new(h, text.encode()).hexdigest()[:16])
print(len(re.findall(r"\b(\w)\w*\1\b", text)), re.sub(r"(?P<a>fox) (?P<b>\w+)", r"\g<b> \g<a>", text)[:60])
for z in (zlib, bz2, lzma):
    print(z.__name__, z.decompress(z.compress(text.encode())) == text.encode())
random.seed(7)
print(random.random(), math.factorial(100) % 10 ** 9, decimal.Decimal(2).sqrt(), math.gamma(4.5))
print(pickle.loads(pickle.dumps({1: (2, [3])})), struct.pack(">IdH", 1, 2.5, 3).hex())
libc = ctypes.CDLL(None)
numbers = (ctypes.c_int * 50)(*[(i * 7919) % 101 for i in range(50)])
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
libc.qsort(numbers, 50, 4, compare(lambda a, b: a[0] - b[0]))
print(list(numbers)[:5], list(numbers) == sorted(numbers))
db = sqlite3.connect(":memory:")
db.create_function("twice", 1, lambda x: 2 * x)
print(db.execute("SELECT twice(21)").fetchone())
a, b = socket.socketpair()
a.send(b"hello")
print(select.select([b], [], [], 1)[0] == [b], b.recv(10))


async def worker(i):
    await asyncio.sleep(0.01 * (5 - i))
    return i


async def main():
    print(await asyncio.gather(*[worker(i) for i in range(5)]))
    p = await asyncio.create_subprocess_exec("echo", "async", stdout=asyncio.subprocess.PIPE)
    print((await p.communicate())[0])

asyncio.run(main())
with mmap.mmap(-1, 8192) as m:
    m[4090:4100] = b"0123456789"
    print(m.find(b"456"))
print(ast.unparse(ast.parse("x = [i for i in range(3) if i % 2]")))
code = "\n".join(f"def f{i}(x): return x + {i}" for i in range(200))
ns = {}
exec(compile(code, "gen", "exec"), ns)
print(sum(ns[f"f{i}"](1) for i in range(200)))
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
conn, _ = server.accept()
client.sendall(b"over tcp")
print(conn.recv(20))
try:
    open("/nonexistent")
except OSError as e:
    print(e)
print(1 / 0)
