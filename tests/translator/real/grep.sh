#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# grep with all of its matchers; -P is compiled by PCRE2's JIT.
grep -c the "$WORDS"; grep -o 'fo[xg]' "$WORDS" | sort | uniq -c
grep -n -m3 -B1 -A1 'Quartz.*Xenon' "$WORDS"
grep -E -c '(dog|fox) .*(lazy|quick)$' "$WORDS"
grep -F -x -f <(head -n 7 "$WORDS") "$WORDS" | wc -l
grep -v -i -w -c quartz "$WORDS"; grep -b -o Xenon "$WORDS" | tail -n 2
grep -E '([a-z]+) \1' "$WORDS" | md5sum
grep -P -o '(?<=fox )\w+(?= the)' "$WORDS" | sort | uniq -c
grep -P -c '^(\d+) (?!\1)\d+ (?:\w+ ){2}(?i:QUARTZ)' "$WORDS"
grep -P '(\b\w+\b)(?:\s+\w+)*\s+\1$' "$WORDS" | md5sum
grep -P -o '\p{Lu}\w+' "$WORDS" | sort -u
grep -rlZ quick "$REAL" --include='g*.sh' | tr '\0' '\n' | sed 's|.*/||'
grep nothing "$WORDS"; echo $?; grep x /nonexistent; echo $?; grep -E '(' "$WORDS"; echo $?
zcat "$WORDS.gz" | LC_ALL=C.UTF-8 grep -P -c '^.{20,24}\bfix\b'
printf 'gr\xc3\xbc\xc3\x9fe\n' | LC_ALL=C.UTF-8 grep -P -o '\w+'
