#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: mawk gawk
# sed; mawk and gawk on the same programs, and gawk's own.
sed -n '1~500p;$=' "$WORDS"
sed -E 's/([a-z]+) ([A-Z]\w+)/\2-\1/g; /dog/!d; s/fox/&&/2' "$WORDS" | md5sum
sed -e ':a' -e '$!N;s/\n/+/;ta' <(seq 200) | md5sum
sed 'y/abc/xyz/;1!G;h;$!d' <(head -n 20 "$WORDS") | md5sum
cp "$WORDS" w; sed -i.bak '/^[0-4]/d;s/$/!/' w; wc -l w w.bak
for awk in mawk gawk; do
	echo $awk
	$awk '{ n[$3]++; s += $1 } END { for (k in n) print k, n[k] | "sort"; close("sort"); print s }' "$WORDS"
	$awk -v OFS=: '$4 ~ /^[a-f]/ { $2 = toupper($4); print }' "$WORDS" | md5sum
	$awk 'BEGIN { for (i = 0; i < 20000; i++) x = (x * 1103 + 12345) % 65536; print x, sin(1), 2 ^ 0.5, exp(1) }'
	$awk 'BEGIN { while (("seq 5" | getline l) > 0) t += l; print t; printf "%c%5.1f|%-4d|\n", 65, 3.14159, 7; exit 3 }'
	echo $?
	$awk 'function f(n) { return n < 2 ? n : f(n - 1) + f(n - 2) } BEGIN { print f(17), length("abc"), substr("hello", 2, 3), index("hello", "l"), match("foobar", /o+/), RSTART, RLENGTH }'
done
gawk 'BEGIN { PROCINFO["sorted_in"] = "@ind_str_asc"; a["b"]; a["a"]; for (k in a) print k; print strftime("%F", 86400, 1), gensub(/(a)(b)/, "\\2\\1", "g", "abab"), and(12, 10) }'
gawk -M 'BEGIN { print 2 ^ 200 }' 2>/dev/null || gawk 'BEGIN { print 2 ^ 50 }'
gawk 'BEGIN { cmd = "sort"; print "b\na" |& cmd; close(cmd, "to"); while ((cmd |& getline x) > 0) print x }'
