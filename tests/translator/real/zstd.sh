#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: zstd
for i in {1..30}; do cat "$WORDS"; done >big
zstd -q -T2 -3 -B300K big -o big.zst; zstd -q -dc big.zst | cmp - big && echo same
zstd -q -T1 -19 <"$WORDS" | zstd -q -dc | md5sum; zstd -q -9 --single-thread <"$WORDS" | md5sum
zstd -q --train -r "$REAL" -o dict --maxdict=4096 2>/dev/null; zstd -q -t big.zst && echo ok
zstd -q -b1e3 -i0 "$WORDS" >/dev/null 2>&1; echo $?; head -c 1000 big.zst | zstd -q -dc >/dev/null 2>&1; echo $?
