#define _GNU_SOURCE
#include "rondo_files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(struct iovec) == sizeof(struct rondo_memory), "iovec");
_Static_assert(offsetof(struct iovec, iov_len) == offsetof(struct rondo_memory, count), "iovec");
_Static_assert(AT_FDCWD == RONDO_AT_FDCWD && AT_SYMLINK_NOFOLLOW == RONDO_AT_SYMLINK_NOFOLLOW, "fcntl");
_Static_assert(AT_REMOVEDIR == RONDO_AT_REMOVEDIR, "fcntl");

int32_t rondo_open_unnamed_flag(void) { return O_TMPFILE; }

// The answer of a call, made again when a signal has interrupted it.
#define ANSWER(call)                                       \
    do {                                                   \
        long answer;                                       \
        do answer = (call);                                \
        while (answer < 0 && errno == EINTR);              \
        return answer < 0 ? -errno : (int)answer;          \
    } while (0)

int rondo_truncate(int fd, uint64_t size) { ANSWER(ftruncate(fd, (off_t)size)); }

int rondo_allocate(int fd, uint64_t offset, uint64_t count) { ANSWER(fallocate(fd, 0, (off_t)offset, (off_t)count)); }

int rondo_rename(int from_folder, const char *from, int to_folder, const char *to, uint32_t flags) {
    ANSWER(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
}

int rondo_unlink(int folder, const char *path, int flags) { ANSWER(unlinkat(folder, path, flags)); }

int rondo_make_folder(int folder, const char *path, uint32_t mode) { ANSWER(mkdirat(folder, path, (mode_t)mode)); }

int rondo_link(int from_folder, const char *from, int to_folder, const char *to) {
    ANSWER(linkat(from_folder, from, to_folder, to, 0));
}

int rondo_symbolic_link(const char *target, int folder, const char *path) { ANSWER(symlinkat(target, folder, path)); }

int rondo_read_link(int folder, const char *path, void *memory, size_t count) {
    ANSWER(readlinkat(folder, path, memory, count));
}

static int open_step(int folder, const char *name, int flags) {
    ANSWER(openat(folder, name, flags | O_NOFOLLOW | O_CLOEXEC));
}

// Name by name; each folder on the way is held open, so that nobody can put another one in its place.
static int open_by_steps(int folder, char *path, int flags) {
    if (path[0] == '/') return -EXDEV;
    int current = folder;
    char *rest = NULL;
    for (char *name = strtok_r(path, "/", &rest); name != NULL;) {
        char *next_name = strtok_r(NULL, "/", &rest);
        int is_up = strcmp(name, "..") == 0;
        int next = is_up ? -EXDEV : open_step(current, name, next_name ? O_PATH | O_DIRECTORY : flags);
        if (current != folder) close(current);
        if (next < 0 || next_name == NULL) return next;
        current = next;
        name = next_name;
    }
    return -ENOENT;
}

static int open_below(int folder, const char *path, int flags, int by_steps) {
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long answer;
    // A folder that is moved meanwhile makes the kernel answer EAGAIN, as it can't be sure.
    int tries = 0;
    do answer = by_steps ? (errno = ENOSYS, -1) : syscall(SYS_openat2, folder, path, &how, sizeof how);
    while (answer < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < 64)));
    if (answer >= 0) return (int)answer;
    // Sandboxes that do not know the call answer EPERM, which it has no other reason for.
    if (errno != ENOSYS && errno != EPERM) return -errno;
    char *copy = strdup(path);
    if (copy == NULL) return -ENOMEM;
    int opened = open_by_steps(folder, copy, flags);
    free(copy);
    return opened;
}

int rondo_open_beneath(const char *folder, const char *path, int by_steps) {
    int base = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base < 0) return -errno;
    // Opening a pipe would wait for its writer.
    int answer = open_below(base, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, by_steps);
    close(base);
    if (answer < 0) return answer;
    int flags = fcntl(answer, F_GETFL);
    if (flags >= 0) fcntl(answer, F_SETFL, flags & ~O_NONBLOCK);
    return answer;
}

// Linux 5.12; older headers lack it, and older kernels answer EINVAL.
#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20
#endif

static int open_cached_at(int folder, const char *path, int flags, uint64_t resolve) {
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = resolve | RESOLVE_CACHED};
    ANSWER(syscall(SYS_openat2, folder, path, &how, sizeof how));
}

int rondo_open_cached(const char *folder, const char *path) {
    int base = AT_FDCWD;
    if (folder != NULL) {
        base = open_cached_at(AT_FDCWD, folder, O_PATH | O_DIRECTORY, 0);
        if (base < 0) return base;
    }
    int flags = O_RDONLY | O_NONBLOCK | (folder != NULL ? O_NOCTTY : 0);
    int file = open_cached_at(base, path, flags, folder != NULL ? RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS : 0);
    if (folder != NULL) close(base);
    if (file >= 0) fcntl(file, F_SETFL, 0);
    return file;
}

int rondo_read_cached(int fd, void *memory, size_t count, uint64_t offset) {
    struct iovec part = {.iov_base = memory, .iov_len = count};
    ANSWER(preadv2(fd, &part, 1, (off_t)offset, RWF_NOWAIT));
}

int rondo_is_memory_file(int fd) { return fcntl(fd, F_GET_SEALS) >= 0; }

int rondo_set_mode(int fd, uint32_t mode) { ANSWER(fchmod(fd, (mode_t)mode)); }

int rondo_set_times(int fd, const int64_t seconds[2], const int64_t nanoseconds[2]) {
    struct timespec times[2] = {{seconds[0], nanoseconds[0]}, {seconds[1], nanoseconds[1]}};
    ANSWER(futimens(fd, times));
}

int rondo_read_parts(int fd, const struct rondo_memory *parts, size_t count, uint64_t offset) {
    const struct iovec *vector = (const struct iovec *)parts;
    ANSWER(offset == UINT64_MAX ? readv(fd, vector, (int)count) : preadv(fd, vector, (int)count, (off_t)offset));
}

int rondo_write_parts(int fd, const struct rondo_memory *parts, size_t count, uint64_t offset) {
    const struct iovec *vector = (const struct iovec *)parts;
    ANSWER(offset == UINT64_MAX ? writev(fd, vector, (int)count) : pwritev(fd, vector, (int)count, (off_t)offset));
}

int rondo_read_folder(int fd, void *memory, size_t count) { ANSWER(syscall(SYS_getdents64, fd, memory, count)); }

int rondo_open_watch(void) { ANSWER(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)); }

int rondo_add_watch(int fd, const char *path, uint32_t mask) { ANSWER(inotify_add_watch(fd, path, mask)); }

int rondo_remove_watch(int fd, int number) { ANSWER(inotify_rm_watch(fd, number)); }

int rondo_lock_now(int fd, int operation) { ANSWER(flock(fd, operation)); }

// A wait for a lock

struct rondo_lock_wait {
    pthread_mutex_t mutex;
    pthread_t thread;
    bool is_running; // under the mutex
    atomic_bool is_cancelled;
    sigjmp_buf way_out;
};

// Between the two marks: where the handler jumps to.
static _Thread_local struct rondo_lock_wait *volatile armed_wait __attribute__((tls_model("initial-exec")));
// The signal that ends waits; −1 if the process uses all that could serve.
static int ending_signal;
static pthread_once_t signal_once = PTHREAD_ONCE_INIT;

static void leave_wait(int signal) {
    (void)signal;
    struct rondo_lock_wait *wait = armed_wait;
    if (wait == NULL) return;
    armed_wait = NULL;
    siglongjmp(wait->way_out, 1);
}

// Takes a real-time signal that nobody handles, from the top: those at the bottom are what programs take first.
static void take_signal(void) {
    ending_signal = -1;
    for (int number = SIGRTMAX - 3; number > SIGRTMIN; number--) {
        struct sigaction old, action;
        memset(&action, 0, sizeof action);
        if (sigaction(number, NULL, &old) != 0 || (old.sa_flags & SA_SIGINFO) || old.sa_handler != SIG_DFL) continue;
        action.sa_handler = leave_wait;
        sigemptyset(&action.sa_mask);
        if (sigaction(number, &action, NULL) == 0) ending_signal = number;
        return;
    }
}

struct rondo_lock_wait *rondo_lock_wait_create(void) {
    pthread_once(&signal_once, take_signal);
    struct rondo_lock_wait *wait = calloc(1, sizeof *wait);
    if (wait == NULL) abort();
    pthread_mutex_init(&wait->mutex, NULL);
    return wait;
}

void rondo_lock_wait_destroy(struct rondo_lock_wait *wait) {
    pthread_mutex_destroy(&wait->mutex);
    free(wait);
}

static void let_signal_in(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, ending_signal);
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
}

// Its locals are not changed after the mark of sigsetjmp, so they hold their values after a jump. Who cancels sets the
// flag first and then sends the signal: what comes before the thread is armed shows in the flag.
static int lock_between_marks(struct rondo_lock_wait *wait, int fd, int operation) {
    if (sigsetjmp(wait->way_out, 1) != 0) {
        (void)flock(fd, LOCK_UN); // it may have got the lock in the last moment
        return -ECANCELED;
    }
    armed_wait = wait;
    int answer = -ECANCELED;
    if (!atomic_load(&wait->is_cancelled)) answer = flock(fd, operation) == 0 ? 0 : -errno;
    armed_wait = NULL;
    return answer;
}

static void set_running(struct rondo_lock_wait *wait, bool is_running) {
    pthread_mutex_lock(&wait->mutex);
    wait->thread = pthread_self();
    wait->is_running = is_running;
    pthread_mutex_unlock(&wait->mutex);
}

int rondo_lock_wait_run(struct rondo_lock_wait *wait, int fd, int operation) {
    if (ending_signal > 0) let_signal_in();
    set_running(wait, true);
    int answer;
    do answer = lock_between_marks(wait, fd, operation);
    while (answer == -EINTR);
    set_running(wait, false);
    return answer;
}

void rondo_lock_wait_cancel(struct rondo_lock_wait *wait) {
    pthread_mutex_lock(&wait->mutex);
    bool was_cancelled = atomic_exchange(&wait->is_cancelled, true);
    // The thread can't end while the mutex is held, so its name is good.
    if (wait->is_running && !was_cancelled && ending_signal > 0) pthread_kill(wait->thread, ending_signal);
    pthread_mutex_unlock(&wait->mutex);
}
