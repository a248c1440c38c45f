// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The example of Documentation/libcodewp.rst; tests/conformance/install runs it. */
#include <codewp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int translations;

/* The store has not happened yet: drop what was made from the page's bytes. */
static void on_trap(struct codewp_trap *trap, void *arg)
{
	translations--;
}

static void on_event(const struct codewp_event_info *ev, void *arg)
{
	translations--;
}

static void check(const char *what, int err)
{
	if (err >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, codewp_strerror(err));
	exit(1);
}

int main(int argc, char **argv)
{
	struct codewp_open_opts oo = { .sz = sizeof(oo) };
	struct codewp_view_opts vo = { .sz = sizeof(vo), .private_view = true };
	struct codewp_thread_opts to = { .sz = sizeof(to), .fn = on_trap };
	struct codewp_thread *thread;
	struct codewp_view *view;
	struct codewp *ctx;
	void *mem = NULL;
	int memfd;

	if (argc > 1)
		oo.backend = codewp_backend_parse(argv[1]);
	check("open", codewp_open(&ctx, &oo));
	memfd = memfd_create("guest", MFD_CLOEXEC);
	if (memfd < 0 || ftruncate(memfd, 1 << 20))
		return 1;
	check("view", codewp_view_create(ctx, &view, memfd, 0, 1 << 20, &vo));
	check("map", codewp_map(view, &mem, 1 << 20, 0, PROT_READ | PROT_WRITE, 0));
	check("register", codewp_thread_register(ctx, &thread, &to));

	/* Arm first, read then. */
	check("arm", codewp_arm(view, 0, CODEWP_PAGE_SIZE, CODEWP_OPEN, NULL));
	translations++;
	printf("%s: %d translation", codewp_backend_info(ctx)->name, translations);

	((volatile char *)mem)[42] = 1;		/* the guest writes to its code */
	check("drain", codewp_drain(view, on_event, NULL));
	printf(", after the store %d\n", translations);

	codewp_thread_unregister(thread);
	codewp_close(ctx);
	return translations != 0;
}
