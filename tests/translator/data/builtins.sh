# Shell builtins only: nothing here may fork.
echo "$# args: $*"
n=0
for a in "$@" x y z; do
	n=$((n + 1))
	case $a in
	*" "*) echo "$n: '$a' has a space" ;;
	[0-9]) echo "$n: a digit" ;;
	*) echo "$n: ${a}${#a}" ;;
	esac
done
f() { if [ "$1" -le 1 ]; then r=1; else f $(($1 - 1)); r=$((r * $1)); fi; }
f 12
echo $r
while read -r l; do
	n=$((n + ${#l}))
done <<END
one line
and another
END
echo $n ${undefined:-default} ${0##*/nothing}
printf '%05d %s\n' 42 done
type cd
test -d / && echo root || echo none
set -- a b c
shift
echo "$1" "${2%c}d"
unset n
echo "${n-unset}"
