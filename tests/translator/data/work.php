<?php
// SPDX-License-Identifier: GPL-2.0 OR MIT
// Loops hot enough for the JIT, side exits, strings, exceptions, closures.
function fib($n) { return $n < 2 ? $n : fib($n - 1) + fib($n - 2); }
function sieve($n)
{
	$a = array_fill(0, $n + 1, true);
	for ($i = 2; $i * $i <= $n; $i++)
		if ($a[$i])
			for ($j = $i * $i; $j <= $n; $j += $i)
				$a[$j] = false;
	return count(array_filter($a)) - 2;
}
class A { public $v = 1; function add($x) { $this->v = ($this->v * 3 + $x) % 65537; return $this; } }
class B extends A { function add($x) { return parent::add($x ^ 5); } }
echo fib(21), " ", sieve(30000), "\n";
$o = [new A, new B];
for ($i = 0; $i < 60000; $i++)
	$o[$i % 7 == 0]->add($i);
echo $o[0]->v, " ", $o[1]->v, "\n";
$x = 1; $f = 0.5; $s = "";
for ($i = 0; $i < 100000; $i++) {
	$x = $i % 1000 == 999 ? (float)$x : (int)(($x * 31 + $i) % 1000003);
	$f = $f * 3.7 * (1 - $f);
	if ($i % 9000 == 0)
		$s .= "$i:$x,";
}
printf("%d %.6f %s\n", $x, $f, $s);
$n = 0;
for ($i = 0; $i < 5000; $i++) {
	try {
		if ($i % 3 == 0)
			throw new Exception("e$i");
		$n += intdiv($i, $i % 5);
	} catch (DivisionByZeroError $e) {
		$n--;
	} catch (Exception $e) {
		$n += strlen($e->getMessage());
	}
}
echo $n, "\n";
$words = explode(" ", file_get_contents($argv[1]));
$c = array_count_values($words); ksort($c); arsort($c);
echo json_encode(array_slice($c, 0, 5, true)), " ", md5(implode(",", $words)), "\n";
echo preg_match_all('/(\w)\w*\1/', implode(" ", $words)), " ", preg_replace_callback('/o+/', fn($m) => strlen($m[0]), "foo boo"), "\n";
function gen() { for ($i = 0; $i < 1000; $i++) yield $i => $i * $i; }
$t = 0; foreach (gen() as $k => $v) $t += $k ^ $v; echo $t, "\n";
usort($words, fn($a, $b) => strlen($a) <=> strlen($b) ?: strcmp($a, $b)); echo $words[500], "\n";
