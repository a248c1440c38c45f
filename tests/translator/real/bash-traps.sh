#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# Traps: signals to oneself, to and from children, in waits and reads. Pids are left out.
trap 'echo EXIT trap, status $?' EXIT
trap 'echo USR1' USR1
kill -USR1 $$
trap 'echo "USR2 in function ${FUNCNAME[0]:-none}"' USR2
f() { kill -USR2 $BASHPID; echo end of f; }
f
trap 'echo TERM ignored once; trap - TERM' TERM
kill -TERM $$
trap '' INT; kill -INT $$; echo "INT ignored"; bash -c 'kill -INT $$; echo child ignores it, too'
trap - INT
trap 'echo child ended' CHLD; /bin/true; trap - CHLD
trap 'echo "ERR $?"' ERR; false; trap - ERR
trap 'n=$((n + 1))' DEBUG; :; :; trap - DEBUG; echo "debug $n"
(trap 'echo subshell USR1; exit 7' USR1; while :; do :; done) & pid=$!
sleep 0.3; kill -USR1 $pid; wait $pid; echo "status $?"
sleep 30 & pid=$!; sleep 0.2; kill $pid; wait $pid 2>/dev/null; echo "killed $?"
(sleep 0.3; kill -USR1 $$) & wait; echo "wait was interrupted: $?"; wait
count=0; trap 'count=$((count + 1))' USR1
for i in {1..100}; do kill -USR1 $$; done; echo "$count of 100"
(kill -STOP $BASHPID; echo continued) & pid=$!; sleep 0.3; kill -CONT $pid; wait $pid
for s in HUP PIPE ALRM SEGV ABRT FPE ILL BUS KILL; do
	(bash -c "kill -$s \$\$"; echo "$s $?") 2>/dev/null
done
trap -p USR1
read -t 0.2 -r line < <(sleep 1); [ $? -gt 128 ] && echo read timed out
trap 'echo RETURN' RETURN; g() { :; }; declare -ft g; g; trap - RETURN
exit 5
