#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# sort(1) with four threads, and merging from files.
for i in {1..40}; do cat "$WORDS"; done | awk '{ print NR % 7919, $0 }' >big
sort --parallel=4 -k3 -k1n big | md5sum
sort --parallel=2 -S 1M -T . -n big | md5sum
sort --parallel=8 -u big | wc -l
