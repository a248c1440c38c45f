/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Restless pages: what mem.c, dispatch.c and smc.c ask of restless.c.
 */
#ifndef CODEWP_RESTLESS_H
#define CODEWP_RESTLESS_H

#include "core.h"

/* Shall the block at pc, in a view, check itself? Its page needs no arm then. */
bool restless(uint64_t pc);

/* A store into code killed these (by dead_next). True: their page has become restless. */
bool restless_hit(const struct tb *dead);

/*
 * The check of tb has failed: what it was made of has changed. True: to what has been
 * there before, so that it may be worth to have a version for it.
 */
bool restless_changed(const struct tb *tb);

/* tb has run so often without a change that checks cost more than a trap would. */
void restless_calm(const struct tb *tb);

/* How often the block at pc may run until that is so. */
int32_t restless_runs(uint64_t pc);

void restless_reset(void);	/* the cache is empty */

#endif /* CODEWP_RESTLESS_H */
