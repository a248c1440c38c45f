#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# tar with each packer as its child process, links and special names.
mkdir -p src/dir; for i in {1..20}; do head -n $((i * 50)) "$WORDS" >src/dir/f$i; done
ln -s dir/f1 src/sym; ln src/dir/f2 src/hard; : >"src/with space"; mkfifo src/fifo
opts=(--sort=name --mtime=@1000000 --owner=0 --group=0 --numeric-owner)
tar "${opts[@]}" -cf a.tar src; md5sum a.tar
for z in gzip bzip2 xz zstd; do
	command -v $z >/dev/null || { echo "no $z"; continue; }
	tar "${opts[@]}" --use-compress-program=$z -cf a.$z src || echo bad
	mkdir out.$z; tar -C out.$z -xf a.$z && diff -r -x fifo src out.$z/src && echo "$z same"
done
tar -tvf a.tar --full-time | awk '{ print $1, $3, $6, $7, $8 }' | md5sum
tar -xOf a.tar src/dir/f3 | md5sum
tar -C out.gzip -df a.tar; echo $?
cat a.tar | tar --delete -f - src/sym 2>/dev/null | tar -tf - | wc -l
tar -xf "$WORDS" 2>/dev/null; echo $?
