// What Swift cannot say by itself: a thread-local pointer without a function call, and constants and calls that the
// C headers hide behind macros or feature tests.
#ifndef RONDO_SYSTEM_H
#define RONDO_SYSTEM_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

// The event loop that owns the calling thread, or NULL.
extern _Thread_local void *rondo_thread_loop __attribute__((tls_model("initial-exec")));
static inline void *rondo_current_loop(void) { return rondo_thread_loop; }
static inline void rondo_set_current_loop(void *loop) { rondo_thread_loop = loop; }

// The event loop on which the task that the calling thread makes is to begin, or NULL.
extern _Thread_local void *rondo_thread_place_ __attribute__((tls_model("initial-exec")));
static inline void *rondo_thread_place(void) { return rondo_thread_place_; }
static inline void rondo_set_thread_place(void *loop) { rondo_thread_place_ = loop; }

// Tells the processor that memory will be needed soon. Any address will do; a wrong one only costs a little time.
static inline void rondo_prefetch(uintptr_t address) { __builtin_prefetch((const void *)address, 1, 3); }

// Nanoseconds of a clock (CLOCK_MONOTONIC is Swift's SuspendingClock, CLOCK_BOOTTIME its ContinuousClock).
static inline uint64_t rondo_clock_nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// What `stat` of a file answers, in fixed fields.
struct rondo_file_status {
    uint64_t size;
    uint64_t inode;
    uint64_t device;
    int64_t modified_seconds;
    uint32_t modified_nanoseconds;
    uint32_t mode;
    uint32_t links;
    uint32_t owner;
    uint32_t group;
};

// The kernel's statx buffer: 256 bytes, filled by the statx operation.
struct rondo_statx {
    uint64_t words[32];
};
#define RONDO_STATX_BASIC_STATS 0x7ffu
void rondo_statx_decode(const struct rondo_statx *raw, struct rondo_file_status *status);
// The reverse, for the simulated file system.
void rondo_statx_encode(const struct rondo_file_status *status, struct rondo_statx *raw);

// Each answers a value that is not negative, or the negated errno.
int rondo_statx_call(int directory, const char *path, int flags, struct rondo_statx *raw);
// The status of an open regular file as far as this machine knows it: what a file server would have to be asked for is
// not asked for. -EOPNOTSUPP for what is no regular file.
int rondo_status_here(int fd, struct rondo_statx *raw);
int rondo_openat(int directory, const char *path, int flags, uint32_t mode);
int rondo_eventfd(void);
int rondo_eventfd_signal(int fd);
int rondo_accept(int fd);

// The part of the kernel's epoll interface that Rondo uses (include/uapi/linux/eventpoll.h), as rondo_uring.h does.
#if defined(__x86_64__)
#pragma pack(push, 1)
#endif
struct rondo_epoll_event {
    uint32_t events;
    uint64_t data;
};
#if defined(__x86_64__)
#pragma pack(pop)
#endif
#define RONDO_EPOLL_IN 0x001u
#define RONDO_EPOLL_URGENT 0x002u // EPOLLPRI
#define RONDO_EPOLL_OUT 0x004u
#define RONDO_EPOLL_ERROR 0x008u        // EPOLLERR, always watched
#define RONDO_EPOLL_HANGUP 0x010u       // EPOLLHUP, always watched
#define RONDO_EPOLL_READ_HANGUP 0x2000u // EPOLLRDHUP
#define RONDO_EPOLL_EDGE (1u << 31)     // EPOLLET

int rondo_epoll_create(void);
int rondo_epoll_add(int epoll, int fd, uint32_t events, uint64_t data);
int rondo_epoll_delete(int epoll, int fd);
// Wait for at most that time (UINT64_MAX: for ever), and never return earlier without an event but for a signal. The
// first needs Linux 5.11 and is exact; the second rounds up to milliseconds.
int rondo_epoll_wait_nanoseconds(int epoll, struct rondo_epoll_event *events, int capacity, uint64_t nanoseconds);
int rondo_epoll_wait_milliseconds(int epoll, struct rondo_epoll_event *events, int capacity, uint64_t nanoseconds);

// A counting semaphore of the C library, for the offload pool's threads.
struct rondo_semaphore;
struct rondo_semaphore *rondo_semaphore_create(void);
void rondo_semaphore_destroy(struct rondo_semaphore *semaphore);
void rondo_semaphore_post(struct rondo_semaphore *semaphore);
void rondo_semaphore_wait(struct rondo_semaphore *semaphore);
// 1 if there was a signal before the deadline, in nanoseconds of CLOCK_MONOTONIC.
int rondo_semaphore_wait_until(struct rondo_semaphore *semaphore, uint64_t deadline);

// Names the calling thread for ps, top and debuggers (15 bytes are kept).
void rondo_name_thread(const char *name);

// Makes standard output hand on each line when it ends, whatever it leads to. Before anything was printed.
void rondo_print_line_by_line(void);

// The calling thread's number in the whole system.
int rondo_thread_id(void);

// How long a block of the C library's allocator is.
size_t rondo_allocation_size(const void *block);

// Makes the calling thread run on one processor only. A negated errno if that can't be.
int rondo_pin_thread(int processor);
// Undoes that for a thread that was started by such a thread; nothing if none was ever pinned.
void rondo_unpin_thread(void);
// The n-th of the processors that the calling thread may run on, or -1.
int rondo_nth_processor(int n);

// The processors that this process may run on.
int rondo_processor_count(void);

#endif
