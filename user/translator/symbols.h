/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Names for guest addresses, from the files that the guest has mapped.
 */
#ifndef CODEWP_SYMBOLS_H
#define CODEWP_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/**
 * symbol_name() - what a guest address is called
 * @pc: guest address
 * @buf: out: SYMBOL+0xOFFSET; FILE+0xOFFSET without a symbol; [0xADDRESS] where no
 *       file is mapped
 * @size: of buf
 *
 * Reads files: only with rt_lock held and the runtime's %fs.
 */
void symbol_name(uint64_t pc, char *buf, size_t size);

#endif /* CODEWP_SYMBOLS_H */
