// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The system calls that wait, and messages between processes, that need more
 * than their line in the table: masks, arrays of descriptors, descriptors in
 * messages. Each has the type sys_fn.
 *
 * Owns nothing. rt_lock is never held while one of them waits.
 */
#include "fd.h"
#include "mem.h"
#include "procfs.h"
#include "raw_syscall.h"
#include "runtime.h"
#include "syscall.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define NR(e)		((long)((e) - sys_table))
#define MAX_MSGS	1024
#define MAX_CONTROL	(64UL << 10)	/* of it is looked at for descriptors */

/* ---- masks --------------------------------------------------------------- */

long sys_masked_wait(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	uint64_t mask;
	int at, err;

	switch (NR(e)) {
	case SYS_ppoll:
		at = 3;
		break;
	case SYS_rt_sigsuspend:
		at = 0;
		break;
	default:
		at = 4;
	}
	if (a[at]) {
		err = sig_wait_mask(cpu, a[at], a[at + 1], &mask);
		if (err)
			return err;
		a[at] = (long)&mask;
	}
	return sys_pass(cpu, e, a);
}

/* select; pselect6 and io_pgetevents, whose last argument is a mask and its size. */
long sys_select_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	struct { uint64_t set, size; } arg;
	uint64_t mask;
	int err;

	if (NR(e) != SYS_io_pgetevents && a[0] > 0)
		for (int i = 1; i < 4; i++)
			mem_kernel_write(a[i], ((uint64_t)(int)a[0] + 63) / 64 * 8);
	if (NR(e) != SYS_select && a[5]) {
		if (guest_read(&arg, a[5], sizeof(arg)))
			return -EFAULT;
		if (arg.set) {
			err = sig_wait_mask(cpu, arg.set, arg.size, &mask);
			if (err)
				return err;
			arg.set = (uint64_t)&mask;
		}
		a[5] = (long)&arg;
	}
	return sys_pass(cpu, e, a);
}

/* ---- poll ---------------------------------------------------------------- */

static long poll_pass(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	return NR(e) == SYS_ppoll ? sys_masked_wait(cpu, e, a) : sys_pass(cpu, e, a);
}

/* Which of the guest's pollfds names a guarded descriptor, from the i-th on? */
static uint32_t next_guarded(uint64_t fds, uint32_t i, uint32_t nr)
{
	struct pollfd p[16];

	for (; i < nr; i += 16) {
		uint32_t n = nr - i < 16 ? nr - i : 16;

		if (guest_read(p, fds + i * sizeof(*p), n * sizeof(*p)))
			return nr;
		for (uint32_t k = 0; k < n; k++)
			if (fd_is_guarded(p[k].fd))
				return i + k;
	}
	return nr;
}

/* A guarded descriptor is like a closed one: POLLNVAL. */
long sys_poll_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	uint32_t nr = a[1];
	uint64_t fds = a[0];
	struct pollfd *copy;
	long ret;

	if (nr > (uint32_t)fd_end() || next_guarded(fds, 0, nr) == nr)
		return poll_pass(cpu, e, a);
	rt_lock();
	copy = malloc(nr * sizeof(*copy));
	rt_unlock();
	if (!copy)
		return -ENOMEM;
	ret = guest_read(copy, fds, nr * sizeof(*copy));
	if (!ret) {
		for (uint32_t i = 0; i < nr; i++)
			if (fd_is_guarded(copy[i].fd))
				copy[i].fd = INT32_MAX;
		a[0] = (long)copy;
		ret = poll_pass(cpu, e, a);
		for (uint32_t i = 0; ret >= 0 && i < nr; i++)
			if (guest_write(fds + i * sizeof(*copy) + offsetof(struct pollfd, revents),
					&copy[i].revents, sizeof(copy[i].revents)))
				ret = -EFAULT;
	}
	rt_lock();
	free(copy);
	rt_unlock();
	return ret;
}

/* ---- futex --------------------------------------------------------------- */

long sys_futex_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	switch (a[1] & 127) {
	case 5:		/* FUTEX_WAKE_OP */
		mem_kernel_write(a[4], 4);
		break;
	case 6:		/* FUTEX_LOCK_PI, UNLOCK, TRYLOCK, LOCK_PI2 */
	case 7:
	case 8:
	case 13:
		mem_kernel_write(a[0], 4);
		break;
	case 11:	/* FUTEX_WAIT_REQUEUE_PI, CMP_REQUEUE_PI */
	case 12:
		mem_kernel_write(a[0], 4);
		mem_kernel_write(a[4], 4);
		break;
	}
	return sys_pass(cpu, e, a);
}

/* ---- messages ------------------------------------------------------------ */

long sys_msgrcv_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	if (a[2] >= 0)
		mem_kernel_write(a[1], sizeof(long) + a[2]);
	return sys_pass(cpu, e, a);
}

/*
 * The descriptors in a message: fn is called with each of them. Returns the first
 * that is not 0.
 */
static long for_each_fd(uint64_t control, uint64_t len, long (*fn)(int fd))
{
	uint64_t end = control + (len < MAX_CONTROL ? len : MAX_CONTROL);

	while (control + CMSG_LEN(0) <= end) {
		struct cmsghdr c;
		int fd;

		if (guest_read(&c, control, sizeof(c)) || c.cmsg_len < CMSG_LEN(0) ||
		    c.cmsg_len > end - control)
			break;
		for (uint64_t at = CMSG_LEN(0); c.cmsg_level == SOL_SOCKET &&
		     c.cmsg_type == SCM_RIGHTS && at + sizeof(fd) <= c.cmsg_len;
		     at += sizeof(fd)) {
			long ret;

			if (guest_read(&fd, control + at, sizeof(fd)))
				return 0;
			ret = fn(fd);
			if (ret)
				return ret;
		}
		control += CMSG_ALIGN(c.cmsg_len);
	}
	return 0;
}

static long sending(int fd)
{
	if (fd_is_guarded(fd))
		return -EBADF;
	/* Who receives it may map and write the memory that it stands for. */
	mem_share_send(fd);
	return 0;
}

static long received(int fd)
{
	procfs_received(fd);
	return 0;
}

long sys_sendmsg_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	bool many = NR(e) == SYS_sendmmsg;
	uint64_t nr = many ? (uint32_t)a[2] : 1;
	struct mmsghdr m;

	for (uint64_t i = 0; i < nr && i < MAX_MSGS; i++) {
		long err;

		if (guest_read(&m.msg_hdr, a[1] + i * sizeof(m), sizeof(m.msg_hdr)))
			break;
		if (!m.msg_hdr.msg_control || !m.msg_hdr.msg_controllen)
			continue;
		err = for_each_fd((uint64_t)m.msg_hdr.msg_control, m.msg_hdr.msg_controllen,
				  sending);
		if (!err)
			continue;
		/* Those before it are sent. */
		if (!i)
			return err;
		a[2] = i;
		break;
	}
	return sys_pass(cpu, e, a);
}

long sys_recvmsg_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	bool many = NR(e) == SYS_recvmmsg;
	uint64_t nr = many ? (uint32_t)a[2] : 1;
	struct msghdr m;
	long ret;

	for (uint64_t i = 0; many && i < nr && i < MAX_MSGS; i++)
		sys_open_msg(a[1] + i * sizeof(struct mmsghdr));
	ret = sys_pass(cpu, e, a);
	for (uint64_t i = 0; ret >= 0 && i < (many ? (uint64_t)ret : 1); i++)
		if (!guest_read(&m, a[1] + i * sizeof(struct mmsghdr), sizeof(m)) &&
		    m.msg_controllen)
			for_each_fd((uint64_t)m.msg_control, m.msg_controllen, received);
	return ret;
}
