#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: bzip2
for i in 1 9; do bzip2 -$i <"$WORDS" >$i.bz2; md5sum $i.bz2; bzip2 -dc $i.bz2 | cmp - "$WORDS"; done
bzip2 -t 9.bz2 && echo ok; head -c 5000 9.bz2 >cut; bzip2 -dc cut 2>/dev/null | wc -c
bzip2recover cut 2>/dev/null; echo $?
