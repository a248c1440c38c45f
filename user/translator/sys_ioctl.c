// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The ioctl commands that the guest may use, with how much of memory each one
 * writes. The old ones do not say it in their number, so they are all listed; a
 * command that is not here ends the guest with a line.
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
	{ FICLONE, 0, true },
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

long sys_ioctl_call(struct cpu *cpu, const struct sys_entry *e, long a[6])
{
	unsigned int cmd = a[1];
	struct ifconf conf;

	if (cmd == SIOCGIFCONF) {
		if (guest_read(&conf, a[2], sizeof(conf)))
			return -EFAULT;
		mem_kernel_write(a[2], sizeof(conf));
		if (conf.ifc_len > 0)
			mem_kernel_write((uint64_t)conf.ifc_buf, conf.ifc_len);
		return sys_pass(cpu, e, a);
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		const struct ioctl_cmd *c = &commands[i];
		long ret;

		if (c->cmd != cmd)
			continue;
		if (c->fd_arg && fd_is_guarded(a[2]))
			return -EBADF;
		mem_kernel_write(a[2], c->out);
		ret = sys_pass(cpu, e, a);
		if (ret >= 0 && cmd == FICLONE)
			mem_file_written(a[0]);
		return ret;
	}
	cpu->regs.rip -= 2;
	unsupported(cpu, "ioctl 0x%x on descriptor %d", cmd, (int)a[0]);
}
