#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: lua5.4 luajit
# where: uffd mprotect kmod
for l in lua5.4 luajit 'luajit -joff' 'luajit -O1 -Ohotloop=2 -Ohotexit=1'; do
	echo "$l"; $l "$REAL/../data/work.lua" "$WORDS"
done
luajit "$REAL/../data/jit.lua"
luajit -e 'local ffi = require "ffi"
ffi.cdef "void qsort(void *, size_t, size_t, int (*)(const int *, const int *)); int getppid(void);"
local a = ffi.new("int[100]"); for i = 0, 99 do a[i] = i * 37 % 101 end
ffi.C.qsort(a, 100, 4, function(x, y) return x[0] - y[0] end)
print(a[0], a[1], a[99]); local s = 0; for i = 1, 1e6 do s = s + ffi.C.getppid() % 1 + i % 3 end print(s)'
