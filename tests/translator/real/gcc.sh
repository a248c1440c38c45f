#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: gcc
# seconds: 150
# Compile real files, and run what comes out: driver, cc1, as, collect2, ld.
cp "$REAL/../data/compile.c" .
for o in -O0 -O2 '-O3 -march=haswell'; do
	# shellcheck disable=SC2086
	gcc $o -S compile.c -o out.s && md5sum <out.s
done
gcc -Wall -Wextra -O2 -g compile.c -o prog -lm && ./prog 12; echo $?
gcc -O1 -static compile.c -o prog -lm && ./prog 30; echo $?
gcc -O2 -flto compile.c -o prog -lm && ./prog 7; echo $?
gcc -E compile.c | grep -c printf; gcc -c -fsyntax-only -x c - <<<'int f(void) { return x; }' 2>&1; echo $?
printf 'int main(void) { return undefined(); }' >bad.c; gcc -w bad.c -o bad 2>/dev/null; echo $?
printf '#include <iostream>\n#include <map>\nint main() { std::map<int, const char *> m{{2, "b"}, {1, "a"}}; for (auto &p : m) std::cout << p.first << p.second << "\\n"; }\n' >m.cc
g++ -O1 m.cc -o m && ./m; nm prog | grep -c ' T '; objdump -d prog | grep -c call >/dev/null && echo disassembled
ar rc lib.a bad.c && ar t lib.a; strip prog && ./prog 3
