#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/lib/x86_64-linux-gnu/libasan.so.* /usr/lib/x86_64-linux-gnu/libubsan.so.*
# seconds: 60
# Good runs, and found bugs; the reports without pids and addresses. Leak detection is
# off: it traces its own process, and ptrace is not supported.
clean() { sed -E 's/==[0-9]+==//;s/0x[0-9a-f]+/ADDR/g;s/\([^)]*\+ADDR\)//g;s/\(BuildId.*//;s/ADDR: *([0-9a-f]{2}.)*.*/ROW/' | grep -E 'ERROR|#[01] |runtime error|freed|region' ; }
export ASAN_OPTIONS=detect_leaks=0
"$GUESTS/app_sanitized-asan" good; echo $?
for bug in overflow after_free global stack null; do "$GUESTS/app_sanitized-asan" $bug 2>err; echo "$bug $?"; clean <err | head -n 4; done
"$GUESTS/app_sanitized-ubsan" good; for bug in shift overflow; do "$GUESTS/app_sanitized-ubsan" ub_$bug 2>&1 | clean; done
