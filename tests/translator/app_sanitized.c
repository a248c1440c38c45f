// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * For the sanitizers: built with each of them. "good" uses memory and threads
 * properly; the other words are one bug each, which the sanitizer must find.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int table[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static volatile int zero, ten = 10;

static void *adds(void *arg)
{
	char *p = malloc(1000);

	memset(p, 1, 1000);
	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&lock);
		total += p[i];
		pthread_mutex_unlock(&lock);
	}
	free(p);
	return arg;
}

static void *races(void *arg)
{
	for (int i = 0; i < 10000; i++)
		++*(volatile long *)&total;
	return arg;
}

static int threads(void *(*fn)(void *))
{
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		if (pthread_create(&t[i], NULL, fn, NULL))
			return 1;
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	return 0;
}

static int good(void)
{
	char *p[200];
	int sum = 0;

	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 200; i++) {
			p[i] = calloc(1, i * 13 + 1);
			p[i] = realloc(p[i], i * 17 + 2);
			strcpy(p[i], "x");
		}
		for (int i = 0; i < 200; i++) {
			sum += p[i][0];
			free(p[i]);
		}
	}
	if (threads(adds))
		return 1;
	printf("%d %ld\n", sum, total);
	return 0;
}

static int bug(const char *which)
{
	volatile char stack[16] = { 0 };
	volatile char *p = malloc(16);

	printf("%s\n", which);
	fflush(stdout);
	if (!strcmp(which, "overflow"))
		return p[ten + 6];
	if (!strcmp(which, "after_free")) {
		free((char *)p);
		return p[zero];
	}
	if (!strcmp(which, "global"))
		return table[ten];
	if (!strcmp(which, "stack"))
		return stack[ten + 7];
	if (!strcmp(which, "null"))
		return *(volatile int *)(long)zero;
	if (!strcmp(which, "ub_shift"))
		return 1 << (ten * 4);
	if (!strcmp(which, "ub_overflow"))
		return 0x7fffffff + ten;
	if (!strcmp(which, "race"))
		return threads(races);
	return 2;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	return strcmp(argv[1], "good") ? bug(argv[1]) : good();
}
