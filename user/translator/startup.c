// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * What a static program at a high address lacks.
 *
 * The runtime is linked far from everything that a guest may want. libc's
 * references to functions that are absent from a static program of one thread
 * are weak, and a linker resolves them to address 0, which a 32-bit offset does
 * not reach from there: so they exist here. crtbegin.o, which has absolute 32-bit
 * references, is left out, and with it the handle that atexit() wants.
 */
#include <stdlib.h>

void __pthread_initialize_minimal(void);
void __call_tls_dtors(void);
void __pthread_unwind(void *buf);

void *__dso_handle;

void __pthread_initialize_minimal(void)
{
}

void __call_tls_dtors(void)
{
}

void __pthread_unwind(void *buf)
{
	abort();
}
