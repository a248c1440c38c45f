#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/bin/rustc
# Threads, channels, panics that unwind, an abort, a stack overflow that its handler reports.
"$GUESTS/app_rust"; echo "status $?"
for how in panic abort overflow exit; do { "$GUESTS/app_rust" $how 2>err; } 2>/dev/null; echo "$how $?"; sed 's/^thread .main. [^p]*//;s/(.*//' err | head -n 3; done
