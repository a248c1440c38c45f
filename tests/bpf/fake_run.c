// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * Stands in for codewp-run: fires its USDT probes a known number of times from
 * several threads, all on the same few pages, so that a lost update shows.
 *
 * codewp-run [--OPTION]... -- THREADS ROUNDS PAGES [exit N | signal N | sleep MS |
 *	lockstep 1]
 *
 * lockstep: every round begins in all threads at once, so that they meet on pages
 * that nobody has counted yet.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../user/translator/probes.h"

static unsigned long rounds, pages, threads, arrived;
static int lockstep;

static void *fire(void *arg)
{
	uint64_t i;

	for (i = 0; i < rounds; i++) {
		uint64_t page = i % pages, spins = 0;

		if (lockstep) {
			__atomic_add_fetch(&arrived, 1, __ATOMIC_RELAXED);
			while (__atomic_load_n(&arrived, __ATOMIC_RELAXED) < (i + 1) * threads)
				if (++spins % 4096 == 0)
					sched_yield();
		}
		probe_tb_translate(0x400000 + page * 4096 + 12, page, 10, 20);
		probe_trap(page, 5, 0x1000 + page, PROBE_HOW_UPCALL);
		probe_tb_invalidate(page, 0, 7, 3, 0x1000 + page);
		probe_page_rung(page, PROBE_RUNG_HOT, 0x1000 + page);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[16];
	int i = 1, n, k;

	for (; i < argc && strcmp(argv[i], "--"); i++)
		fprintf(stderr, "option %s\n", argv[i]);
	if (argc - i < 4)
		return 99;
	n = atoi(argv[i + 1]);
	rounds = strtoul(argv[i + 2], NULL, 0);
	pages = strtoul(argv[i + 3], NULL, 0);
	if (n < 1 || n > 16 || !pages)
		return 99;
	threads = n;
	lockstep = argc - i >= 6 && !strcmp(argv[i + 4], "lockstep");
	for (k = 0; k < n; k++)
		if (pthread_create(&t[k], NULL, fire, NULL))
			return 98;
	for (k = 0; k < n; k++)
		pthread_join(t[k], NULL);
	if (argc - i < 6)
		return 0;
	k = atoi(argv[i + 5]);
	if (!strcmp(argv[i + 4], "signal"))
		raise(k);
	if (!strcmp(argv[i + 4], "sleep"))
		usleep(k * 1000);
	return !strcmp(argv[i + 4], "exit") ? k : 0;
}
