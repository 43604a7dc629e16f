/* Loaded before libc into the server, to break it: its writes are no longer synced, and it is told
 * that they are. With ONLY_COMMITS the commits alone are not, and everything else is. */

#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t write_unsynced(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
	return syscall(SYS_pwritev2, fd, parts, count, at, 0, flags & ~RWF_DSYNC);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
	return write_unsynced(fd, parts, count, at, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
	return write_unsynced(fd, parts, count, at, flags);
}

#ifndef ONLY_COMMITS
int fsync(int fd)
{
	(void)fd;
	return 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return 0;
}

int sync_file_range(int fd, off_t at, off_t length, unsigned int flags)
{
	(void)fd, (void)at, (void)length, (void)flags;
	return 0;
}
#endif
