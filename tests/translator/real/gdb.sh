#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: gdb
# What gdb does without ptrace, which is not supported.
gdb --version | head -n 1; gdb -q -nx -batch -ex 'print 6 * 7' -ex 'info line main' -ex 'p sizeof(long)' "$GUESTS/app_status"
gdb -q -nx -batch -ex 'disassemble main' "$GUESTS/app_status" | md5sum
