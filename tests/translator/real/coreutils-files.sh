#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# The file half of coreutils, findutils. Inode numbers and block counts are left out.
mkdir -p tree/{a,b,c}/{x,y,z}
for d in tree/*/*; do
	for i in 1 2 3 4 5; do
		head -n $((i * 7)) "$WORDS" >"$d/file$i"
	done
done
ln -s ../a/x tree/b/link; ln tree/a/x/file1 tree/hard; chmod 640 tree/a/x/*; mkfifo tree/pipe
find tree -exec touch -h -d '2020-02-03 04:05:06' {} +
cp -a tree copy && diff -r -x pipe tree copy && echo same
ls -lR --time-style=long-iso copy | awk '{ $3 = $4 = ""; if ($1 != "total") print }' |
	sed '/^d/s/ [0-9]* / N /2'
find tree -type f -name 'file[24]' -size -2 -printf '%p %s %m %n\n' | sort
find tree -type f -print0 | sort -z | xargs -0 -P 4 -n 3 md5sum | sort | md5sum
find tree -name 'file*' | sort | xargs -I{} -n1 basename {} | sort | uniq -c
du --apparent-size -b -s tree/a/x/file3 | cut -f1
stat -c '%n %s %A %h %F' tree/hard tree/b/link tree/pipe
readlink -f tree/b/link | sed "s|$HOME||"; realpath --relative-to=tree/a tree/b/y
mv tree/a/x/file1 tree/a/renamed; rm -r tree/c; rmdir tree/c 2>&1
install -D -m 755 "$WORDS" inst/dir/words && stat -c %a inst/dir/words
truncate -s 12345 holes && stat -c %s holes && cksum holes
cmp "$WORDS" tree/hard; echo $?
sync holes; env -i A=1 B=2 env | sort; nice -n 3 nice; nohup echo hup 2>/dev/null
timeout 0.2 sleep 10; echo "timeout $?"
timeout -s INT 5 true; echo $?
mktemp -u XXXX | wc -c; pathchk -p 'a:b' && echo ok; basename a/b.c .c; dirname a/b/c
yes | head -n 1000 | wc -l; id -u; whoami; uname -m; tty; logname 2>/dev/null; stdbuf -oL echo buf
seq 20 | xargs -n 4 -P 3 echo | sort; false; echo $?
