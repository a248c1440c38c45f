// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Input for the compiler: a bit of everything, about as long as a real file. */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
	struct node *left, *right;
	int key;
	double weight[4];
};

enum op { ADD, SUB, MUL, DIV, PUSH, DUP, SWAP, JNZ, PRINT, HALT };
struct insn { enum op op; int arg; };

static struct node *insert(struct node *n, int key)
{
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n)
			exit(2);
		n->key = key;
		for (int i = 0; i < 4; i++)
			n->weight[i] = key / (i + 1.0);
	} else if (key < n->key) {
		n->left = insert(n->left, key);
	} else if (key > n->key) {
		n->right = insert(n->right, key);
	}
	return n;
}

static double walk(const struct node *n, int depth)
{
	double s = 0;

	if (!n)
		return 0;
	for (int i = 0; i < 4; i++)
		s += n->weight[i] * (depth + 1);
	return s + walk(n->left, depth + 1) - walk(n->right, depth + 1);
}

static void drop(struct node *n)
{
	if (!n)
		return;
	drop(n->left);
	drop(n->right);
	free(n);
}

static long interpret(const struct insn *code)
{
	static const void *const label[] = {
		&&add, &&sub, &&mul, &&div, &&push, &&dup, &&swap, &&jnz, &&print, &&halt,
	};
	long stack[64] = { 0 }, t;
	int sp = 0, pc = 0;

#define NEXT goto *label[code[pc].op]
	NEXT;
add:	sp--; stack[sp - 1] += stack[sp]; pc++; NEXT;
sub:	sp--; stack[sp - 1] -= stack[sp]; pc++; NEXT;
mul:	sp--; stack[sp - 1] *= stack[sp]; pc++; NEXT;
div:	sp--; stack[sp - 1] = stack[sp] ? stack[sp - 1] / stack[sp] : 0; pc++; NEXT;
push:	stack[sp++] = code[pc++].arg; NEXT;
dup:	stack[sp] = stack[sp - 1 - code[pc].arg]; sp++; pc++; NEXT;
swap:	t = stack[sp - 1]; stack[sp - 1] = stack[sp - 2]; stack[sp - 2] = t; pc++; NEXT;
jnz:	pc = stack[--sp] ? code[pc].arg : pc + 1; NEXT;
print:	printf("%ld\n", stack[sp - 1]); pc++; NEXT;
halt:	return stack[sp - 1];
}

static uint32_t crc(const void *data, size_t n)
{
	static uint32_t table[256];
	const uint8_t *p = data;
	uint32_t c = ~0u;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t v = i;

			for (int k = 0; k < 8; k++)
				v = v & 1 ? v >> 1 ^ 0xedb88320 : v >> 1;
			table[i] = v;
		}
	while (n--)
		c = table[(c ^ *p++) & 255] ^ c >> 8;
	return ~c;
}

static double sum(int n, ...)
{
	va_list ap;
	double s = 0;

	va_start(ap, n);
	while (n--)
		s += va_arg(ap, double);
	va_end(ap);
	return s;
}

static void matrix(int n, float *restrict a, const float *restrict b, const float *restrict c)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			float s = 0;

			for (int k = 0; k < n; k++)
				s += b[i * n + k] * c[k * n + j];
			a[i * n + j] = s;
		}
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv)
{
	static const struct insn count[] = {
		{ PUSH, 0 }, { PUSH, 1000 },
		{ SWAP, 0 }, { DUP, 1 }, { ADD, 0 }, { SWAP, 0 },
		{ PUSH, 1 }, { SUB, 0 }, { DUP, 0 }, { JNZ, 2 },
		{ SWAP, 0 }, { PRINT, 0 }, { HALT, 0 },
	};
	static float m[3][24 * 24];
	char text[] = "the quick brown fox jumps over the lazy dog", *word[16];
	int n = argc > 1 ? atoi(argv[1]) : 10, words = 0;
	struct node *root = NULL;

	for (int i = 0; i < n * 50; i++)
		root = insert(root, i * 7919 % 1009);
	printf("%.6f\n", walk(root, 0));
	drop(root);
	printf("%ld\n", interpret(count) % (n + 1));
	printf("%08x\n", crc(text, sizeof(text)));
	printf("%g\n", sum(4, 1.5, sqrt(n), pow(2, 10), (double)n));
	for (int i = 0; i < 24 * 24; i++) {
		m[1][i] = i % 7;
		m[2][i] = i % 5;
	}
	matrix(24, m[0], m[1], m[2]);
	printf("%g %g\n", m[0][0], m[0][24 * 24 - 1]);
	for (char *s = strtok(text, " "); s; s = strtok(NULL, " ")) {
		*s = toupper((unsigned char)*s);
		word[words++] = s;
	}
	qsort(word, words, sizeof(word[0]), compare);
	for (int i = 0; i < words; i++)
		printf("%s%c", word[i], i + 1 < words ? ' ' : '\n');
	return n & 127;
}
