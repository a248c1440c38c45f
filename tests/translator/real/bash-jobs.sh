#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# Job control without a terminal: process groups, stop and continue, wait -n, jobs.
set -m
sleep 20 & jobs; kill %1; wait %1; echo "status $?"; jobs
(sleep 0.1; exit 3) & (sleep 5; exit 4) &
wait -n; echo "first $?"; kill %+; wait; echo all
sleep 20 | cat | cat &
pg=$(ps -o pgid= -p $! | tr -d ' '); ps -o pgid= -g 0 >/dev/null
[ "$(ps -eo pgid= | grep -cw "$pg")" = 3 ] && echo three in one group
kill -STOP -- -"$pg"; sleep 0.3; jobs | sed 's/\[\([0-9]*\)\][-+ ]*/[\1] /'
kill -CONT -- -"$pg"; sleep 0.2; jobs -r | wc -l
# Which command the shell says it before is a matter of time.
exec 3>&2 2>/dev/null
kill -- -"$pg"; wait; jobs >/dev/null; echo "after kill: $(jobs | wc -l)"
exec 2>&3
(sleep 0.2; echo background) & fg %% >/dev/null; echo "fg $?"
{ sleep 0.1; echo grouped; } & wait $!; disown -a; jobs
suspend_me() { kill -STOP $BASHPID; echo resumed; }
suspend_me & sleep 0.3; jobs -s | wc -l; bg %% >/dev/null; wait
