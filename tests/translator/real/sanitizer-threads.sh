#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/lib/x86_64-linux-gnu/libtsan.so.*
# seconds: 60
"$GUESTS/app_sanitized-tsan" good; echo $?
"$GUESTS/app_sanitized-tsan" race 2>&1 | grep -q 'data race' && echo found
