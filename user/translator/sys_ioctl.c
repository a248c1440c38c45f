// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The ioctl commands, with how much of memory each one writes. Commands of today
 * say it in their number; of the old ones those that are common are listed.
 *
 * For any other the argument is taken for a pointer to a page's worth of data.
 * What its structure points to is found out the hard way: if the kernel could
 * not write there, all of memory is opened to it, and it is asked again.
 *
 * Owns nothing; takes no lock.
 */
#include "fd.h"
#include "mem.h"
#include "syscall.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/kd.h>
#include <linux/random.h>
#include <linux/sockios.h>
#include <linux/vt.h>
#include <asm/ioctls.h>
#include <asm/termbits.h>

struct ioctl_cmd {
	unsigned int cmd;
	unsigned short out;	/* bytes written at the argument */
	bool fd_arg;		/* the argument is a descriptor */
};

#define TERMIO		18
#define IFREQ		40

#define IN(cmd)		{ cmd, 0, false }
#define OUT(cmd, n)	{ cmd, n, false }

static const struct ioctl_cmd commands[] = {
	OUT(TCGETS, sizeof(struct termios)),
	IN(TCSETS), IN(TCSETSW), IN(TCSETSF),
	OUT(TCGETS2, sizeof(struct termios2)),
	IN(TCSETS2), IN(TCSETSW2), IN(TCSETSF2),
	OUT(TCGETA, TERMIO),
	IN(TCSETA), IN(TCSETAW), IN(TCSETAF),
	IN(TCSBRK), IN(TCSBRKP), IN(TCXONC), IN(TCFLSH),
	OUT(TIOCGWINSZ, 8), IN(TIOCSWINSZ),
	OUT(TIOCGPGRP, 4), IN(TIOCSPGRP), OUT(TIOCGSID, 4),
	IN(TIOCSCTTY), IN(TIOCNOTTY), IN(TIOCEXCL), IN(TIOCNXCL),
	OUT(TIOCOUTQ, 4), OUT(FIONREAD, 4), IN(TIOCSTI),
	OUT(TIOCMGET, 4), IN(TIOCMSET), IN(TIOCMBIS), IN(TIOCMBIC),
	OUT(TIOCGETD, 4), IN(TIOCSETD),
	OUT(TIOCGPTN, 4), IN(TIOCSPTLCK), OUT(TIOCGPTLCK, 4), IN(TIOCGPTPEER),
	IN(TIOCPKT), OUT(TIOCGPKT, 4), OUT(TIOCGEXCL, 4), IN(TIOCCONS),
	IN(TIOCSBRK), IN(TIOCCBRK),
	IN(FIONBIO), IN(FIOASYNC), IN(FIOCLEX), IN(FIONCLEX),
	OUT(FIOQSIZE, 8),

	OUT(FIGETBSZ, 4), OUT(FIBMAP, 4), IN(FIFREEZE), IN(FITHAW),
	OUT(FS_IOC_GETFLAGS, 8), IN(FS_IOC_SETFLAGS),
	OUT(FS_IOC_GETVERSION, 8), OUT(FS_IOC_FSGETXATTR, sizeof(struct fsxattr)),
	IN(FS_IOC_FSSETXATTR),
	OUT(FS_IOC_GETFSLABEL, FSLABEL_MAX),
	{ FICLONE, 0, true }, IN(FICLONERANGE),
	OUT(BLKGETSIZE, 8), OUT(BLKGETSIZE64, 8), OUT(BLKSSZGET, 4), OUT(BLKBSZGET, 8),
	OUT(BLKROGET, 4), IN(BLKFLSBUF), IN(BLKRRPART),
	OUT(RNDGETENTCNT, 4),

	OUT(SIOCGIFNAME, IFREQ), OUT(SIOCGIFINDEX, IFREQ), OUT(SIOCGIFFLAGS, IFREQ),
	OUT(SIOCGIFADDR, IFREQ), OUT(SIOCGIFDSTADDR, IFREQ), OUT(SIOCGIFBRDADDR, IFREQ),
	OUT(SIOCGIFNETMASK, IFREQ), OUT(SIOCGIFMETRIC, IFREQ), OUT(SIOCGIFMTU, IFREQ),
	OUT(SIOCGIFHWADDR, IFREQ), OUT(SIOCGIFTXQLEN, IFREQ), OUT(SIOCGIFMAP, IFREQ),
	OUT(SIOCATMARK, 4), OUT(SIOCGPGRP, 4), IN(SIOCSPGRP), OUT(SIOCGSTAMP_OLD, 16),
	OUT(SIOCGSTAMPNS_OLD, 16),

	OUT(KDGKBTYPE, 1), OUT(KDGETMODE, 8), OUT(KDGKBMODE, 8), OUT(KDGKBLED, 1),
	OUT(KDGETLED, 1), OUT(VT_OPENQRY, 4), OUT(VT_GETSTATE, 6), OUT(VT_GETMODE, 8),
};

static const struct ioctl_cmd *find(unsigned int cmd)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (commands[i].cmd == cmd)
			return &commands[i];
	return NULL;
}

static long listed(struct cpu *cpu, const struct sys_entry *e, long a[6], size_t out)
{
	mem_kernel_write(a[2], out);
	return sys_pass(cpu, e, a);
}

static long unlisted(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	unsigned int cmd = a[1];
	long ret;

	if (_IOC_DIR(cmd) & _IOC_READ)
		mem_kernel_write(a[2], _IOC_SIZE(cmd));
	else if (!_IOC_DIR(cmd))
		mem_kernel_write(a[2], PAGE);
	ret = sys_pass(cpu, e, a);
	if (ret != -EFAULT)
		return ret;
	mem_kernel_write(0, TASK_END);
	return sys_pass(cpu, e, a);
}

long sys_ioctl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	const struct ioctl_cmd *c = find(a[1]);
	struct file_clone_range range;
	struct ifconf conf;
	long ret;

	switch ((unsigned int)a[1]) {
	case SIOCGIFCONF:
		if (guest_read(&conf, a[2], sizeof(conf)))
			return -EFAULT;
		mem_kernel_write(a[2], sizeof(conf));
		if (conf.ifc_len > 0)
			mem_kernel_write((uint64_t)conf.ifc_buf, conf.ifc_len);
		return sys_pass(cpu, e, a);
	case FICLONERANGE:
		if (!guest_read(&range, a[2], sizeof(range)) && fd_is_guarded(range.src_fd))
			return -EBADF;
		break;
	}
	if (!c)
		ret = unlisted(cpu, e, a);
	else if (c->fd_arg && fd_is_guarded(a[2]))
		ret = -EBADF;
	else
		ret = listed(cpu, e, a, c->out);

	switch ((unsigned int)a[1]) {
	case FICLONE:
	case FICLONERANGE:
		if (ret >= 0)
			mem_file_written(a[0]);
		break;
	case TIOCGPTPEER:
		ret = fd_made(ret);
		break;
	}
	return ret;
}
