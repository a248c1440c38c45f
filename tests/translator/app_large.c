// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * A library of more than 2 MiB: the kernel wants a place for it where huge pages fit
 * (programs.c).
 */
extern const char app_large[4 << 20];
const char app_large[4 << 20] = { 1 };
