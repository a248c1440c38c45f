// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * --perf-map: /tmp/perf-PID.map, by which perf names the code cache's addresses.
 * A line for each block, START SIZE NAME, written when it is made, so that the
 * file is good whenever the process ends, and however.
 *
 * Owns the file's descriptor; guarded by rt_lock. A JIT of the guest may write its
 * own lines to the same file: this one appends only, whole lines at a time, and
 * the guest's addresses are never those of the cache.
 */
#include "debug.h"
#include "core.h"
#include "fd.h"
#include "runtime.h"
#include "symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

bool perfmap_on;
static int map_fd = -1;

static int open_map(void)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	fd_open_begin();
	/* What another process of this number has left; never what a link leads to. */
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
	fd = fd < 0 ? -errno : fd_guard(fd);
	fd_open_end();
	return fd;
}

int perfmap_open(void)
{
	map_fd = open_map();
	if (map_fd < 0)
		return map_fd;
	perfmap_on = true;
	return 0;
}

void perfmap_tb(const struct tb *tb)
{
	char line[512], name[400];
	int n;

	symbol_name(tb->cm.pc, name, sizeof(name));
	n = snprintf(line, sizeof(line), "%lx %x %s\n", (unsigned long)tb->code, tb->host_bytes,
		     name);
	/* A full disk is no reason to end the guest. */
	if (write(map_fd, line, n) != n)
		return;
}

static void again(struct tb *tb, void *unused)
{
	if (!codemap_tb_dead(&tb->cm))
		perfmap_tb(tb);
}

void perfmap_fork_child(void)
{
	if (!perfmap_on)
		return;
	close(map_fd);
	map_fd = open_map();
	perfmap_on = map_fd >= 0;
	if (perfmap_on)
		cache_for_each_tb(again, NULL);
}
