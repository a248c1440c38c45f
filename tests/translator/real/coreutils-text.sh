#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# The text half of coreutils, on 3000 lines. Sums where the output is long.
run() { echo "== $*"; "$@" | md5sum; echo "${PIPESTATUS[0]}"; }
sort "$WORDS" >sorted; sort -u -k3,3 "$WORDS" >unique
run sort -n -k2 -r "$WORDS"
run sort -R --random-source=/dev/zero "$WORDS"
run uniq -c -f1 sorted
run tac "$WORDS"
run nl -ba -w4 "$WORDS"
run fold -sw 30 "$WORDS"
run fmt -w 60 "$WORDS"
run pr -2 -l 40 -h title -D then "$WORDS"
run paste -d: "$WORDS" sorted
run join -j3 -o 1.1,2.2,0 unique <(sort -k3,3 unique)
run comm -12 sorted <(head -n 2000 sorted)
run cut -d ' ' -f 2,4- "$WORDS"
run od -A d -t x2 -t c "$WORDS"
run expand -t 3 "$WORDS"
run unexpand -a "$WORDS"
run ptx -w 70 unique
run base64 "$WORDS"
run base32 -w 50 "$WORDS"
run shuf --random-source="$WORDS" -n 300 "$WORDS"
run cksum "$WORDS"
run sum -s "$WORDS"
for s in md5 sha1 sha224 sha256 sha384 sha512 b2; do ${s}sum <"$WORDS"; done
seq 0 7 100000 | factor | md5sum
seq -f %05.1f 0 0.5 2000 | md5sum
numfmt --to=iec 1234 999999 123456789 5
tsort <<<'a b b c c d a d e f f d'
tr -d '\n' <"$WORDS" | wc -c
tr a-z A-Z <"$WORDS" | head -c 100
head -n -2990 "$WORDS"; tail -n +2995 "$WORDS"
wc "$WORDS" | awk '{ print $1, $2, $3 }'
split -n l/5 "$WORDS" part. && cat part.* | cmp - "$WORDS" && ls part.*
csplit -s -z sorted /^5/ /^7/ && wc -l xx*
dd if="$WORDS" bs=333 skip=2 count=100 status=none | md5sum
expr 17 '*' 23 + 4; expr substr abcdef 2 3; test 3 -lt 5 -a -n x && echo yes
printf '%5.2f|%-8s|%x|%b\n' 3.14159 left 255 'a\tb'
date -d @1000000000 +%c; date -d '2024-02-29 + 1 year' +%F
echo 'a,b' | tee copy | cat - copy
