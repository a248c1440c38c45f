// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The library's words for its errors: what they mean here, not in general. */
#include <string.h>

#include "internal.h"

static const struct {
	int err;
	const char *text;
} words[] = {
	{ 0, "success" },
	{ EACCES, "the memfd is not open for reading and writing, or a mapping asked for "
		  "PROT_EXEC" },
	{ EAGAIN, "the kernel was busy with this page: try again" },
	{ EBADF, "not an open descriptor" },
	{ EBUSY, "the calling thread is registered already, or a private view would share "
		 "pages with another view" },
	{ E2BIG, "the options have members that this library (or module) does not know" },
	{ EEXIST, "something is mapped there already" },
	{ EFAULT, "an address is not mapped, or not one whole mapping" },
	{ EINTR, "interrupted by a signal" },
	{ EFBIG, "the view is larger than the module allows (parameter max_view_bytes)" },
	{ EINVAL, "an argument is wrong: unaligned, empty, a null pointer, or an unknown flag" },
	{ EMFILE, "too many open descriptors, or contexts" },
	{ ENODEV, "the backend is not there" },
	{ ENOENT, "/dev/codewp is not there: the module is not loaded" },
	{ ENODATA, "that dirty client is not enabled" },
	{ ENOMEM, "out of memory, of mappings (vm.max_map_count), or nothing is mapped there" },
	{ ENOSPC, "this user has all the views that the module allows (parameter "
		  "max_views), or the file system is full" },
	{ ENOSYS, "the kernel has no such system call" },
	{ ENXIO, "the range ends behind the end of the memfd" },
	{ EOPNOTSUPP, "this backend, or this kind of file, cannot do that" },
	{ EOVERFLOW, "the end of a range does not fit in 64 bits" },
	{ EPERM, "not permitted: a seal, a private view of another process, or missing privilege" },
	{ EPROTO, "the module and this library are of different versions" },
	{ ERANGE, "the range ends behind the end of the view" },
	{ ESRCH, "the context belongs to the process that opened it, and this is its child" },
};

/**
 * codewp_strerror() - an error in words
 * @err: -errno or errno
 *
 * Return: what it means in this library; never NULL.
 */
const char *codewp_strerror(int err)
{
	const char *s;

	if (err < 0)
		err = -err;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (words[i].err == err)
			return words[i].text;
	s = strerrordesc_np(err);
	return s ? s : "unknown error";
}
