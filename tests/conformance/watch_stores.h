/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What watch.c and watch_stores.S agree on. */
#ifndef WATCH_STORES_H
#define WATCH_STORES_H

/* Where the stores go: below 4 GiB, for addresses of 32 bits. */
#define WATCH_ADDR	0x20000000
/* In there, unless a page is to be crossed. */
#define WATCH_OFF	0x440

#define WATCH_FX	144		/* offsetof(struct watch_regs, fx) */

#endif
