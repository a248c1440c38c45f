#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: go
# seconds: 60
# Goroutines on several threads, preemption by SIGURG, collector, timers, HTTP over loopback.
"$GUESTS/app_go"; echo "status $?"
GOMAXPROCS=8 GOGC=20 "$GUESTS/app_go"; echo "status $?"
"$GUESTS/app_go" panic 2>&1 | head -n 3; "$GUESTS/app_go" segv 2>&1 | sed -n '1,2s/ addr=.*//p'
