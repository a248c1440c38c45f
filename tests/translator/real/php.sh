#!/bin/bash
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: php /usr/lib/php/*/opcache.so
# seconds: 60
# Without a JIT, with the tracing one (1255 is PHP's name for it), with the function one.
for jit in off tracing function 1235; do
	echo "$jit"
	php -n -d zend_extension=opcache.so -d opcache.enable_cli=1 -d opcache.jit_buffer_size=32M \
		-d opcache.jit=$jit "$REAL/../data/work.php" "$WORDS"
done
php -n -r 'echo implode(",", array_map(fn($x) => $x ** 2, range(1, 5))), "\n"; exit(3);'; echo $?
