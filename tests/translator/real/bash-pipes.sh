#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# Pipes, subshells, substitutions, here-documents, redirections.
echo one | (read -r x; echo "got $x") | tr a-z A-Z
seq 100 | while read -r n; do echo $((n * n)); done | tail -n 1
false | true | (exit 3) | cat; echo "${PIPESTATUS[*]}"
set -o pipefail; false | true; echo $?; set +o pipefail
cat <<A <<B
never
A
value: $((6 * 7)) $(echo nested $(echo deeper))
B
cat <<-'Q' | rev
	no $expansion here
	Q
diff <(seq 1 5) <(seq 2 6)
tee >(wc -c >count) <<<'some text' >/dev/null; sleep 0.2; cat count
(x=5; cd /; echo "$x $PWD"); echo "${x:-unset} ${PWD##*/}"
{ echo out; echo err >&2; } 2>&1 >/dev/null | sed 's/^/caught /'
exec 3<>pipefile; echo through three >&3; exec 3<&-; cat pipefile
coproc C { while read -r l; do echo "<$l>"; done; }
echo a >&"${C[1]}"; read -r r <&"${C[0]}"; echo "$r"
echo b >&"${C[1]}"; read -r r <&"${C[0]}"; echo "$r"
eval "exec ${C[1]}>&-"; wait
a=(10 20 30); declare -A h=([k]=v [j]=w); echo "${a[@]:1} ${#a[@]} ${h[k]}${h[j]}"
s=translator; echo "${s:2:4} ${s/a/A} ${s//t/T} ${s^^} ${s%%o*} ${#s}"
f() { local n=$1; ((n < 2)) && echo 1 || echo $((n * $(f $((n - 1))))); }; f 8
for ((i = 0; i < 30; i++)); do /bin/true & done; wait; echo "waited $?"
for i in 5 3 9; do (exit "$i") & p[$i]=$!; done
for i in 9 5 3; do wait "${p[$i]}"; echo "status $?"; done
mapfile -t lines < <(head -n 5 "$WORDS"); echo "${#lines[@]}: ${lines[4]}"
printf '%s\n' {a..e}{1..3} | paste -sd ' '
[[ abc123 =~ ^([a-z]+)([0-9]+)$ ]] && echo "${BASH_REMATCH[2]}"
yes 2>/dev/null | head -n 2
bash -c 'exit 42'; echo $?
/nonexistent/program 2>/dev/null; echo $?
{ sh -c 'kill -9 $$'; } 2>/dev/null; echo $?
ulimit -n 64; ulimit -n
IFS=: read -r -a parts <<<'a:b:c'; echo "${parts[2]}"
time_out=$( { TIMEFORMAT=%R; time true; } 2>&1 ); [[ $time_out == 0.* ]] && echo timed
exec /bin/echo last
