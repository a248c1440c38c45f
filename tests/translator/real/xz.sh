#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: xz
# seconds: 60
# xz with two threads that have something to do: three blocks each.
for i in {1..6}; do cat "$WORDS"; done >big
xz -T2 -1 --block-size=300KiB <big >big.xz; md5sum big.xz; xz -dc -T2 big.xz | cmp - big && echo same
xz -T1 -6e <"$WORDS" | md5sum; xz --robot -l big.xz | awk '$1 == "totals" { print $2, $3 }'
xz --format=lzma <"$WORDS" | xz -dc --format=lzma | md5sum; xz -t "$WORDS" 2>/dev/null; echo $?
