// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * PCRE2's JIT: 400 patterns, each compiled to machine code, matched against a
 * text, freed; memory for code is reused again and again.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

static const char *const word[] = {
	"fox", "dog", "lazy", "[a-z]+", "\\d{2,4}", "(?i)QUICK", "o.e", "(a|e|i)+",
	"\\bth?e\\b", "[^aeiou ]{3}",
};

static const char text[] =
	"The quick brown fox jumps over the lazy dog 1234 times, then 56 more; one "
	"foxy dog, 7890 others, and the strength of twelve rhythms. O tempora, o mores!";

int main(void)
{
	unsigned long matches = 0, sum = 0;
	uint32_t jit = 0;

	pcre2_config(PCRE2_CONFIG_JIT, &jit);
	printf("jit %u\n", jit);
	for (int i = 0; i < 400; i++) {
		char pattern[200];
		pcre2_code *re;
		pcre2_match_data *md;
		PCRE2_SIZE at = 0, off;
		int err, n = 0;

		snprintf(pattern, sizeof(pattern), "(%s)(?:.{0,%d}?)(%s)|(?:%s){1,%d}%s",
			 word[i % 10], i % 7 + 1, word[i / 10 % 10], word[i / 7 % 4],
			 i / 40 + 1, i % 3 ? "" : "(?=.)");
		re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, 0, &err, &off, NULL);
		if (!re) {
			printf("%d: %s: error %d at %zu\n", i, pattern, err, (size_t)off);
			return 1;
		}
		err = pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
		if (err) {
			printf("%d: %s: jit error %d\n", i, pattern, err);
			return 1;
		}
		md = pcre2_match_data_create_from_pattern(re, NULL);
		while (at < sizeof(text) - 1 &&
		       pcre2_jit_match(re, (PCRE2_SPTR)text, sizeof(text) - 1, at, 0, md, NULL) > 0) {
			PCRE2_SIZE *v = pcre2_get_ovector_pointer(md);

			matches++;
			n++;
			sum = sum * 31 + v[0] * 7 + v[1];
			at = v[1] > v[0] ? v[1] : v[1] + 1;
		}
		printf("%d %s %d\n", i, pattern, n);
		pcre2_match_data_free(md);
		pcre2_code_free(re);
	}
	printf("%lu matches, %lx\n", matches, sum);
	return 0;
}
