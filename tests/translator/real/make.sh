#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: make gcc
# seconds: 150
# make -j2: its jobserver, vfork or posix_spawn, gcc below it.
for i in 1 2 3 4 5 6; do echo "int f$i(int x) { return x * $i + 1; }" >f$i.c; done
{
	for i in 1 2 3 4 5 6; do echo "int f$i(int);"; done
	echo '#include <stdio.h>'
	echo 'int main(void) { printf("%d\n", f1(f2(f3(f4(f5(f6(1))))))); return 0; }'
} >main.c
cat >Makefile <<'M'
OBJ := $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
COUNT := $(shell ls *.c | wc -l)
prog: $(OBJ)
	@gcc -o $@ $^ && echo linked $(COUNT)
%.o: %.c
	@gcc -O1 -c -o $@ $<
.PHONY: check fail sub
check: prog ; @./prog
fail: ; @exit 3
sub: ; @$(MAKE) -s check $(MAKEFLAGS:-j%=)
M
make -s -j2 check; make -s -j2 sub; make -j2 -q prog; echo "up to date: $?"
touch f3.c; make -n prog | wc -l; make -s -j2 check; make -k fail 2>&1 | sed 's/make\[*[0-9]*\]*: //'; echo "${PIPESTATUS[0]}"
make -s -j2 -f - <<<'all: $(foreach i,1 2 3 4 5 6 7 8 9,t$(i))
t%: ; @echo $@ >$@' && cat t?
