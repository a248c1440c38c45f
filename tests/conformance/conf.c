// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The fixture of the conformance suite, and main(). */
#include "conf.h"

#include <dirent.h>

struct fixture fx;
struct codewp_trap last_trap;
struct codewp_regs last_regs;
volatile unsigned int traps;
void (*on_trap)(struct codewp_trap *trap);
struct codewp_event_info events[EVENTS_MAX];
unsigned int nr_events;

static enum codewp_backend backend;

enum codewp_backend conf_backend(void)
{
	return backend;
}

int conf_memfd(uint64_t bytes)
{
	int fd = ASSERT_OK(memfd_create("conformance", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	ASSERT_OK(ftruncate(fd, bytes));
	return fd;
}

void conf_callback(struct codewp_trap *trap, void *arg)
{
	last_trap = *trap;
	last_regs = *trap->regs;
	traps = traps + 1;
	if (on_trap)
		on_trap(trap);
}

struct codewp_open_opts conf_open_opts(void)
{
	struct codewp_open_opts o = { .sz = sizeof(o), .backend = backend };

	return o;
}

/* A backend that this machine forbids is skipped; the module must be there. */
static void open_or_skip(const struct codewp_open_opts *opts)
{
	char why[400];
	int err = codewp_probe(backend, why, sizeof(why));

	if (err && backend == CODEWP_UFFD &&
	    (err == -EPERM || err == -ENOSYS || err == -EOPNOTSUPP))
		SKIP("%s", why);
	if (err)
		TEST_FAIL("probe: %d: %s", err, why);
	OK(codewp_open(&fx.ctx, opts));
	ASSERT_EQ(codewp_backend_info(fx.ctx)->backend, backend);
}

void fx_register(const struct codewp_thread_opts *opts)
{
	struct codewp_thread_opts o = { .sz = sizeof(o), .fn = conf_callback };

	OK(codewp_thread_register(fx.ctx, &fx.thread, opts ?: &o));
}

void conf_open(void)
{
	struct codewp_open_opts o = conf_open_opts();

	open_or_skip(&o);
}

void fx_open_with(const struct codewp_open_opts *opts, bool private_view)
{
	struct codewp_view_opts vo = {
		.sz = sizeof(vo),
		.private_view = private_view,
		.cookie = 0xc0de,
	};
	void *p = NULL;

	open_or_skip(opts);
	fx.memfd = conf_memfd(BYTES);
	OK(codewp_view_create(fx.ctx, &fx.view, fx.memfd, 0, BYTES, &vo));
	OK(codewp_map(fx.view, &p, BYTES, 0, PROT_READ | PROT_WRITE, 0));
	fx.mem = p;
	OK(codewp_alias(fx.view, &p));
	fx.alias = p;
	fx.state = codewp_page_states(fx.view);
	ASSERT(fx.state);
}

void fx_open(void)
{
	struct codewp_open_opts o = conf_open_opts();

	fx_open_with(&o, true);
	fx_register(NULL);
}

bool can(uint32_t what)
{
	return codewp_backend_info(fx.ctx)->can & what;
}

void need(uint32_t what)
{
	static const struct {
		uint32_t bit;
		const char *word;
	} words[] = {
		{ CODEWP_CAN_UPCALL, "upcall:" },
		{ CODEWP_CAN_KERNEL_WRITES, "kernel writes:" },
		{ CODEWP_CAN_ALIASES, "aliases:" },
		{ CODEWP_CAN_NO_SPLIT, "no split:" },
		{ CODEWP_CAN_MPROTECT, "mprotect:" },
		{ CODEWP_CAN_DIRTY, "dirty:" },
		{ CODEWP_CAN_RING, "ring:" },
		{ CODEWP_CAN_KVM, "kvm:" },
	};
	const char *cannot = codewp_backend_info(fx.ctx)->cannot;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const char *line;

		if (words[i].bit != what)
			continue;
		line = strstr(cannot, words[i].word);
		if (can(what)) {
			if (line)
				TEST_FAIL("can, and cannot: %s", words[i].word);
			return;
		}
		if (!line)
			TEST_FAIL("cannot, and does not say why: %s", words[i].word);
		SKIP("%.*s", (int)strcspn(line, "\n"), line);
	}
	TEST_FAIL("unknown ability %x", what);
}

static void take_event(const struct codewp_event_info *ev, void *arg)
{
	if (nr_events < EVENTS_MAX)
		events[nr_events] = *ev;
	nr_events++;
}

int drain_all(struct codewp_view *view)
{
	int n;

	nr_events = 0;
	n = OK(codewp_drain(view, take_event, NULL));
	ASSERT_EQ((unsigned int)n, nr_events);
	return n;
}

void in_thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	ASSERT_EQ(pthread_create(&t, NULL, fn, arg), 0);
	ASSERT_EQ(pthread_join(t, NULL), 0);
}

void *store_thread(void *addr)
{
	*(volatile unsigned char *)addr = 0xee;
	return NULL;
}

unsigned int count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned int n = 0;
	int c;

	ASSERT(f);
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

unsigned int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	ASSERT(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int main(int argc, char **argv)
{
	const char *name = getenv("CODEWP_BACKEND");
	const char *dash = strrchr(argv[0], '-');
	int b;

	if (!name)
		name = dash ? dash + 1 : "";
	b = codewp_backend_parse(name);
	if (b <= CODEWP_AUTO) {
		fprintf(stderr, "which backend? Call me conformance-NAME, or set CODEWP_BACKEND\n");
		return 2;
	}
	backend = b;
	return test_main(argc, argv);
}
