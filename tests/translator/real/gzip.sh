#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
for i in 1 6 9; do gzip -n -$i <"$WORDS" >$i.gz; md5sum $i.gz; gzip -dc $i.gz | cmp - "$WORDS"; done
cp "$WORDS" w; gzip -n w; gzip -l w.gz | awk 'NR > 1 { print $1, $2, $3 }'; gzip -t w.gz && echo ok
zcat 1.gz 9.gz | md5sum; zgrep -c fox 6.gz
head -c 5000 9.gz | gzip -dc 2>/dev/null | wc -c; gzip -t /dev/null 2>/dev/null; echo $?
