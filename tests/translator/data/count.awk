# Word counts, field sums, a little recursion and string work.
function fact(n) { return n <= 1 ? 1 : n * fact(n - 1) }
{ for (i = 1; i <= NF; i++) n[length($i)]++; sum += $1 * NR; line[NR % 10] = $0 }
/fox|dog/ { hits++ }
END {
	for (i = 1; i < 20; i++) if (i in n) printf "%d %d\n", i, n[i]
	print sum, hits, fact(12), toupper(substr(line[3], 1, 20))
	s = line[5]; gsub(/[aeiou]/, "<&>", s); print s
	printf "%.6f %e %s\n", atan2(1, 1) * 4, exp(10), sprintf("%08.3f", sqrt(2))
}
