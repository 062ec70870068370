#define _GNU_SOURCE
#include "rondo_system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rondo_uring.h"

_Thread_local void *rondo_thread_loop __attribute__((tls_model("initial-exec")));

_Thread_local void *rondo_thread_place_ __attribute__((tls_model("initial-exec")));

static int result_or_errno(long result) { return result < 0 ? -errno : (int)result; }

int rondo_uring_setup(uint32_t entries, struct rondo_uring_params *params) {
    return result_or_errno(syscall(SYS_io_uring_setup, entries, params));
}

int rondo_uring_enter(int fd, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
                      const struct rondo_uring_wait_argument *argument) {
    return result_or_errno(
        syscall(SYS_io_uring_enter, fd, to_submit, min_complete, flags, argument, argument ? sizeof *argument : 0));
}

int rondo_uring_register(int fd, uint32_t opcode, void *argument, uint32_t count) {
    return result_or_errno(syscall(SYS_io_uring_register, fd, opcode, argument, count));
}

_Static_assert(sizeof(struct statx) == sizeof(struct rondo_statx), "statx");

void rondo_statx_decode(const struct rondo_statx *raw, struct rondo_file_status *status) {
    struct statx from;
    memcpy(&from, raw, sizeof from);
    status->size = from.stx_size;
    status->inode = from.stx_ino;
    status->device = ((uint64_t)from.stx_dev_major << 32) | from.stx_dev_minor;
    status->modified_seconds = from.stx_mtime.tv_sec;
    status->modified_nanoseconds = from.stx_mtime.tv_nsec;
    status->mode = from.stx_mode;
    status->links = from.stx_nlink;
    status->owner = from.stx_uid;
    status->group = from.stx_gid;
}

void rondo_statx_encode(const struct rondo_file_status *status, struct rondo_statx *raw) {
    struct statx to;
    memset(&to, 0, sizeof to);
    to.stx_mask = RONDO_STATX_BASIC_STATS;
    to.stx_blksize = 4096;
    to.stx_size = status->size;
    to.stx_blocks = (status->size + 511) / 512;
    to.stx_ino = status->inode;
    to.stx_dev_major = (uint32_t)(status->device >> 32);
    to.stx_dev_minor = (uint32_t)status->device;
    to.stx_mtime.tv_sec = status->modified_seconds;
    to.stx_mtime.tv_nsec = status->modified_nanoseconds;
    to.stx_mode = (uint16_t)status->mode;
    to.stx_nlink = status->links;
    to.stx_uid = status->owner;
    to.stx_gid = status->group;
    memcpy(raw, &to, sizeof to);
}

int rondo_statx_call(int directory, const char *path, int flags, struct rondo_statx *raw) {
    return result_or_errno(syscall(SYS_statx, directory, path, flags, RONDO_STATX_BASIC_STATS, raw));
}

int rondo_status_here(int fd, struct rondo_statx *raw) {
    struct statx status;
    int answer = result_or_errno(
        syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, RONDO_STATX_BASIC_STATS, &status));
    if (answer < 0) return answer;
    memcpy(raw, &status, sizeof *raw);
    return S_ISREG(status.stx_mode) ? 0 : -EOPNOTSUPP;
}

int rondo_openat(int directory, const char *path, int flags, uint32_t mode) {
    return result_or_errno(openat(directory, path, flags, (mode_t)mode));
}

int rondo_eventfd(void) { return result_or_errno(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

int rondo_eventfd_signal(int fd) {
    uint64_t one = 1;
    return result_or_errno(write(fd, &one, sizeof one));
}

int rondo_accept(int fd) { return result_or_errno(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); }

int rondo_epoll_create(void) { return result_or_errno(epoll_create1(EPOLL_CLOEXEC)); }

int rondo_epoll_add(int epoll, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    return result_or_errno(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
}

int rondo_epoll_delete(int epoll, int fd) { return result_or_errno(epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL)); }

_Static_assert(sizeof(struct epoll_event) == sizeof(struct rondo_epoll_event), "epoll_event");
_Static_assert(offsetof(struct epoll_event, data) == offsetof(struct rondo_epoll_event, data), "epoll_event");
_Static_assert(RONDO_EPOLL_EDGE == EPOLLET && RONDO_EPOLL_READ_HANGUP == EPOLLRDHUP, "epoll events");

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

int rondo_epoll_wait_nanoseconds(int epoll, struct rondo_epoll_event *events, int capacity, uint64_t nanoseconds) {
    struct {
        int64_t seconds, nanoseconds;
    } time = {(int64_t)(nanoseconds / 1000000000u), (int64_t)(nanoseconds % 1000000000u)};
    return result_or_errno(
        syscall(SYS_epoll_pwait2, epoll, events, capacity, nanoseconds == UINT64_MAX ? NULL : &time, NULL, 0));
}

int rondo_epoll_wait_milliseconds(int epoll, struct rondo_epoll_event *events, int capacity, uint64_t nanoseconds) {
    uint64_t milliseconds = nanoseconds / 1000000u + (nanoseconds % 1000000u != 0);
    int timeout = nanoseconds == UINT64_MAX ? -1 : milliseconds > INT_MAX ? INT_MAX : (int)milliseconds;
    return result_or_errno(epoll_wait(epoll, (struct epoll_event *)events, capacity, timeout));
}

struct rondo_semaphore {
    sem_t handle;
};

struct rondo_semaphore *rondo_semaphore_create(void) {
    struct rondo_semaphore *semaphore = malloc(sizeof *semaphore);
    if (semaphore == NULL) abort();
    sem_init(&semaphore->handle, 0, 0);
    return semaphore;
}

void rondo_semaphore_destroy(struct rondo_semaphore *semaphore) {
    sem_destroy(&semaphore->handle);
    free(semaphore);
}

void rondo_semaphore_post(struct rondo_semaphore *semaphore) { sem_post(&semaphore->handle); }

void rondo_semaphore_wait(struct rondo_semaphore *semaphore) {
    while (sem_wait(&semaphore->handle) != 0 && errno == EINTR) {}
}

int rondo_semaphore_wait_until(struct rondo_semaphore *semaphore, uint64_t deadline) {
    struct timespec time = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
    int answer;
    while ((answer = sem_clockwait(&semaphore->handle, CLOCK_MONOTONIC, &time)) != 0 && errno == EINTR) {}
    return answer == 0;
}

void rondo_name_thread(const char *name) {
    char kept[16];
    strncpy(kept, name, sizeof kept - 1);
    kept[sizeof kept - 1] = 0;
    pthread_setname_np(pthread_self(), kept);
}

int rondo_thread_id(void) { return (int)syscall(SYS_gettid); }

size_t rondo_allocation_size(const void *block) { return malloc_usable_size((void *)block); }

// What the process was allowed before its first thread was pinned.
static cpu_set_t unpinned;
static pthread_once_t unpinned_once = PTHREAD_ONCE_INIT;
static _Atomic bool was_pinned;

static void keep_unpinned(void) { was_pinned = sched_getaffinity(0, sizeof unpinned, &unpinned) == 0; }

int rondo_pin_thread(int processor) {
    pthread_once(&unpinned_once, keep_unpinned);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)processor, &set);
    return -pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

void rondo_print_line_by_line(void) { setvbuf(stdout, NULL, _IOLBF, 0); }

void rondo_unpin_thread(void) {
    if (was_pinned) pthread_setaffinity_np(pthread_self(), sizeof unpinned, &unpinned);
}

int rondo_nth_processor(int n) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return -1;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (CPU_ISSET((size_t)processor, &set) && n-- == 0) return processor;
    }
    return -1;
}

int rondo_processor_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}
