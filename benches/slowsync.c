/* A slower disk for any server, `--preload` of the benchmark: each fsync, fdatasync and synchronous pwritev2 takes
 * SLOWSYNC_US microseconds longer. A descriptor that was opened with O_SYNC or O_DSYNC escapes it.
 *
 *     cc -O2 -shared -fPIC -o slowsync.so benches/slowsync.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifndef RWF_DSYNC
#define RWF_DSYNC 0x00000002
#endif
#ifndef RWF_SYNC
#define RWF_SYNC 0x00000004
#endif

static void delay(void) {
    static long micros = -1;
    if (micros < 0) {
        const char *text = getenv("SLOWSYNC_US");
        micros = text ? atol(text) : 0;
    }
    if (micros > 0) {
        struct timespec time = {micros / 1000000, micros % 1000000 * 1000};
        nanosleep(&time, NULL);
    }
}

static int sync_slowly(const char *name, int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int result = real(file);
    delay();
    return result;
}

int fsync(int file) { return sync_slowly("fsync", file); }
int fdatasync(int file) { return sync_slowly("fdatasync", file); }

static ssize_t write_slowly(const char *name, int file, const struct iovec *parts, int count, off_t at, int flags) {
    ssize_t (*real)(int, const struct iovec *, int, off_t, int) = dlsym(RTLD_NEXT, name);
    ssize_t result = real(file, parts, count, at, flags);
    if (flags & (RWF_DSYNC | RWF_SYNC)) delay();
    return result;
}

ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t at, int flags) {
    return write_slowly("pwritev2", file, parts, count, at, flags);
}

ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off_t at, int flags) {
    return write_slowly("pwritev64v2", file, parts, count, at, flags);
}
