/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The runtime's half of translator.h for tests of the core: guest memory is the
 * process's memory as it is, of one class, and no backend arms anything.
 */
#ifndef FAKE_H
#define FAKE_H

#include "core.h"

extern enum mem_class fake_class;
extern struct cpu_room fake_room;
#define fake_cpu fake_room.cpu
extern uint32_t fake_gen;		/* of every page */
/* Called once, when the core has read guest bytes and not yet published. */
extern void (*fake_after_read)(void);

void fake_start(const struct core_opts *opts);

#endif
