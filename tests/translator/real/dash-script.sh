#!/bin/dash -e
# SPDX-License-Identifier: GPL-2.0 OR MIT
# A script of the other shell, with an option on its first line, that runs itself.
if [ "$1" = again ]; then shift; echo "again: $# $*"; exit 3; fi
echo "$0" | sed 's|.*/||'
i=0; while [ $i -lt 500 ]; do i=$((i + 1)); done; echo $i
"$0" again 'a b' c || echo "status $?"
cp "$0" self; ./self again x || echo "copied, $?"
printf '#!./self again\n' >second; chmod +x second; ./second y || echo "script of a script, $?"
printf 'echo no first line\n' >third; chmod +x third; ./third
printf '#!/bin/cat\nprinted by cat\n' >fourth; chmod +x fourth; ./fourth
set +e; printf '#!/nonexistent/interp\n' >fifth; chmod +x fifth; ./fifth 2>/dev/null; echo $?
printf '#! \t/bin/echo  one argument  \n' >sixth; chmod +x sixth; ./sixth two
trap 'echo bye' EXIT
echo unset: "${nothing-default}"; false; echo end
