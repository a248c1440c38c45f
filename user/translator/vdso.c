// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The vDSO: the kernel has mapped one for us, and the guest gets the same. Its
 * code is translated like any other; its data pages are read where they are. The
 * guest cannot unmap or move it.
 */
#include "mem.h"
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

static const char *const names[] = { "[vdso]", "[vvar]", "[vvar_vclock]" };

/**
 * vdso_add() - make the vDSO part of the guest's memory; once, before it runs
 *
 * Return: what AT_SYSINFO_EHDR shall say, or 0 when there is none.
 */
uint64_t vdso_add(void)
{
	uint64_t start, end, ehdr = getauxval(AT_SYSINFO_EHDR);
	char line[512], name[64], perm[8];
	bool found = false;
	FILE *maps;

	maps = ehdr ? fopen("/proc/self/maps", "re") : NULL;
	if (!maps)
		return 0;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %63s", &start, &end, perm, name) != 4)
			continue;
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
			if (strcmp(name, names[i]))
				continue;
			if (mem_add_foreign(start, end, perm[2] == 'x' ? PROT_READ | PROT_EXEC :
					    PROT_READ, names[i]))
				found = false;
			else if (start == ehdr)
				found = true;
		}
	}
	fclose(maps);
	return found ? ehdr : 0;
}
