#define _GNU_SOURCE
#include "rondo_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#define RONDO_CLOSE_RANGE_CLOEXEC 4
#define RONDO_P_PIDFD 3

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
// ThreadSanitizer's own versions of these calls would take the child, which shares our memory, for a fork of us.
int __clone(int (*body)(void *), void *stack, int flags, void *argument, ...);
#define clone __clone
#define execve(path, arguments, environment) syscall(SYS_execve, path, arguments, environment)
#define _exit(status) (syscall(SYS_exit_group, status), __builtin_unreachable())
#endif
#endif

static int result_or_errno(long result) { return result < 0 ? -errno : (int)result; }

// The child between clone and exec. It shares our memory (CLONE_VM) while our thread stands still (CLONE_VFORK), has a
// stack of its own, and may only make calls that man 7 signal-safety lists: other threads may hold any lock.
struct child {
    struct rondo_spawn *spawn;
    int error;
};

static int child_fail(struct child *child, int step) {
    child->spawn->step = step;
    child->error = errno;
    _exit(127);
}

// What the parent handles it handles for itself; what it ignores would be inherited (SIGPIPE above all).
static void reset_signals(void) {
    // The kernel's own call, as the C library's refuses the two signals that it keeps for itself: zeros are SIG_DFL.
    const unsigned long kernel_action[4] = {0};
    for (int number = 1; number < NSIG; number++) syscall(SYS_rt_sigaction, number, kernel_action, NULL, 8);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

// Puts the three streams in place. First all sources move above 2, so that none is overwritten by another.
static int place_streams(const int wanted[3]) {
    int sources[3];
    for (int index = 0; index < 3; index++) {
        int source = wanted[index];
        if (source == RONDO_STREAM_AS_OUTPUT) source = wanted[1] == RONDO_STREAM_INHERIT ? 1 : sources[1];
        if (source == RONDO_STREAM_INHERIT) source = index;
        if (source == RONDO_STREAM_NULL) source = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (source < 0) return -1;
        sources[index] = source;
        if (source == index || source > 2) continue;
        sources[index] = fcntl(source, F_DUPFD_CLOEXEC, 3);
        if (sources[index] < 0) return -1;
    }
    for (int index = 0; index < 3; index++) {
        if (sources[index] == index) {
            // Inherited as it is: even if it is closed.
            int flags = fcntl(index, F_GETFD);
            if (flags >= 0 && fcntl(index, F_SETFD, flags & ~FD_CLOEXEC) < 0) return -1;
        } else if (dup2(sources[index], index) < 0) {
            return -1;
        }
    }
    return 0;
}

static int run_child(void *argument) {
    struct child *child = argument;
    struct rondo_spawn *spawn = child->spawn;
    reset_signals();
    if (spawn->own_group && setpgid(0, 0) < 0) return child_fail(child, RONDO_STEP_STREAMS);
    if (place_streams(spawn->streams) < 0) return child_fail(child, RONDO_STEP_STREAMS);
    // What some library has opened without close-on-exec. Before Linux 5.11 such descriptors are inherited.
    syscall(SYS_close_range, 3, ~0U, RONDO_CLOSE_RANGE_CLOEXEC);
    if (spawn->directory != NULL && chdir(spawn->directory) < 0) return child_fail(child, RONDO_STEP_DIRECTORY);
    const int is_search = spawn->candidates[0] != NULL && spawn->candidates[1] != NULL;
    int is_denied = 0;
    for (char *const *path = spawn->candidates; *path != NULL; path++) {
        execve(*path, spawn->arguments, spawn->environment);
        int may_be_elsewhere = errno == EACCES || errno == ENOENT || errno == ENOTDIR;
        if (!is_search || !may_be_elsewhere) return child_fail(child, RONDO_STEP_EXECUTE);
        // A program that is there and may not be run; a folder that may not be searched says nothing.
        if (errno == EACCES && access(*path, F_OK) == 0) is_denied = 1;
    }
    errno = is_denied ? EACCES : ENOENT;
    return child_fail(child, RONDO_STEP_EXECUTE);
}

int rondo_spawn(struct rondo_spawn *spawn) {
    const size_t stack_size = 64 * 1024;
    char *stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    spawn->step = RONDO_STEP_CLONE;
    spawn->pidfd = -1;
    if (stack == MAP_FAILED) return -errno;
    struct child child = {.spawn = spawn, .error = 0};
    // A handler of ours must not run in the child, where it would change our memory.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int pidfd = -1;
    int pid = clone(run_child, stack + stack_size, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &child, &pidfd);
    int error = pid < 0 ? errno : child.error;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, stack_size);
    if (pid < 0) return -error;
    if (error != 0) {
        struct rondo_exit end;
        rondo_pidfd_reap(pidfd, 1, &end);
        close(pidfd);
        return -error;
    }
    spawn->pid = pid;
    spawn->pidfd = pidfd;
    return 0;
}

int rondo_pidfd_send_signal(int pidfd, int signal) {
    return result_or_errno(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

int rondo_pidfd_reap(int pidfd, int waits, struct rondo_exit *end) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    memset(end, 0, sizeof *end);
    int answer;
    do {
        answer = waitid((idtype_t)RONDO_P_PIDFD, (id_t)pidfd, &info, WEXITED | (waits ? 0 : WNOHANG));
    } while (answer < 0 && errno == EINTR);
    if (answer < 0) return -errno;
    if (info.si_pid == 0) return 0;
    end->has_ended = 1;
    end->is_signal = info.si_code != CLD_EXITED;
    end->dumped_core = info.si_code == CLD_DUMPED;
    end->value = info.si_status;
    return 0;
}

static void *reap_and_close(void *argument) {
    int pidfd = (int)(intptr_t)argument;
    struct rondo_exit end;
    rondo_pidfd_reap(pidfd, 1, &end);
    close(pidfd);
    return NULL;
}

int rondo_reap_in_background(int pidfd) {
    int own = rondo_duplicate(pidfd);
    if (own < 0) return own;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 64 * 1024);
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, reap_and_close, (void *)(intptr_t)own);
    pthread_attr_destroy(&attributes);
    if (error != 0) close(own);
    return -error;
}

char **rondo_environment(void) { return environ; }

int rondo_descriptor_form(int fd) {
    struct stat status;
    if (fstat(fd, &status) < 0) return -errno;
    if (S_ISSOCK(status.st_mode)) return RONDO_FORM_SOCKET;
    return S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode) ? RONDO_FORM_STREAM : RONDO_FORM_FILE;
}

int rondo_pipe(int *reader, int *writer) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    *reader = ends[0];
    *writer = ends[1];
    return 0;
}

int rondo_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -errno : result_or_errno(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

int rondo_duplicate(int fd) { return result_or_errno(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

// Whether opening it once more leads to the same thing: some devices give each opener one of its own (a new pseudo
// terminal, say).
static int may_reopen(int fd) {
    struct stat status;
    if (fstat(fd, &status) < 0) return 0;
    if (S_ISFIFO(status.st_mode)) return 1;
    if (!S_ISCHR(status.st_mode)) return 0;
    unsigned type = major(status.st_rdev);
    // 1 holds /dev/null and its like; 5, 2 is the controlling end of pseudo terminals.
    return type == 1 || (isatty(fd) && !(type == 5 && minor(status.st_rdev) == 2));
}

int rondo_reopen(int fd, int for_writing) {
    if (!may_reopen(fd)) return -EINVAL;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int flags = (for_writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int answer = open(path, flags);
    if (answer < 0) return -errno;
    if (answer > 2) return answer;
    int higher = rondo_duplicate(answer);
    close(answer);
    return higher;
}

// A blocking descriptor would wait, should somebody else have been faster or the room be small: so it is asked first,
// and given no more than what poll(2) promises a pipe has room for (man 7 pipe: PIPE_BUF).
#define SHARED_WRITE 4096

static int is_ready(int fd, short events) {
    struct pollfd entry = {.fd = fd, .events = events};
    int answer;
    do {
        answer = poll(&entry, 1, 0);
    } while (answer < 0 && errno == EINTR);
    return answer != 0;
}

int rondo_read_now(int fd, void *bytes, size_t count, int kind) {
    if (kind == RONDO_KIND_SHARED && !is_ready(fd, POLLIN)) return -EAGAIN;
    long answer;
    do {
        if (kind == RONDO_KIND_SOCKET) {
            answer = recv(fd, bytes, count, MSG_DONTWAIT);
        } else {
            answer = read(fd, bytes, count);
        }
    } while (answer < 0 && errno == EINTR);
    return result_or_errno(answer);
}

// What goes to nobody any more sends SIGPIPE to the thread. It is kept blocked meanwhile, and taken back.
struct quiet_pipes {
    sigset_t before;
    int was_pending;
};

static sigset_t pipe_signal(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    return signals;
}

static struct quiet_pipes begin_quiet_pipes(void) {
    struct quiet_pipes quiet = {.was_pending = 0};
    sigset_t signals = pipe_signal(), pending;
    pthread_sigmask(SIG_BLOCK, &signals, &quiet.before);
    // Only a thread that had it blocked already can have one that waits.
    if (sigismember(&quiet.before, SIGPIPE)) {
        sigpending(&pending);
        quiet.was_pending = sigismember(&pending, SIGPIPE);
    }
    return quiet;
}

// Keeps errno as the call has left it.
static void end_quiet_pipes(const struct quiet_pipes *quiet, long answer) {
    int error = errno;
    if (answer < 0 && error == EPIPE && !quiet->was_pending) {
        sigset_t signals = pipe_signal();
        const struct timespec now = {0, 0};
        while (sigtimedwait(&signals, NULL, &now) < 0 && errno == EINTR) {}
    }
    pthread_sigmask(SIG_SETMASK, &quiet->before, NULL);
    errno = error;
}

static long write_quietly(int fd, const void *bytes, size_t count) {
    struct quiet_pipes quiet = begin_quiet_pipes();
    long answer = write(fd, bytes, count);
    end_quiet_pipes(&quiet, answer);
    return answer;
}

int rondo_write_now(int fd, const void *bytes, size_t count, int kind) {
    if (kind == RONDO_KIND_SHARED) {
        if (!is_ready(fd, POLLOUT)) return -EAGAIN;
        if (count > SHARED_WRITE) count = SHARED_WRITE;
    }
    long answer;
    do {
        if (kind == RONDO_KIND_SOCKET) {
            answer = send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else {
            answer = write_quietly(fd, bytes, count);
        }
    } while (answer < 0 && errno == EINTR);
    return result_or_errno(answer);
}

int rondo_widen_pipe(int fd, int bytes) { return result_or_errno(fcntl(fd, F_SETPIPE_SZ, bytes)); }

int rondo_move_from_socket(int socket, int pipe, size_t count) {
    long answer;
    do {
        answer = splice(socket, NULL, pipe, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } while (answer < 0 && errno == EINTR);
    return result_or_errno(answer);
}

int rondo_move_to_socket(int pipe, int socket, size_t count) {
    struct quiet_pipes quiet = begin_quiet_pipes();
    long answer;
    do {
        answer = splice(pipe, NULL, socket, NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } while (answer < 0 && errno == EINTR);
    end_quiet_pipes(&quiet, answer);
    return result_or_errno(answer);
}

int rondo_send_file(int file, uint64_t offset, size_t count, int socket) {
    struct stat status;
    if (fstat(file, &status) < 0) return -errno;
    // Asked for more than there is, older kernels keep the last bytes for 0.2 s (docs/decisions/0019).
    uint64_t left = status.st_size > 0 && (uint64_t)status.st_size > offset ? (uint64_t)status.st_size - offset : 0;
    if (left < count) count = (size_t)left;
    if (count == 0) return 0;
    struct quiet_pipes quiet = begin_quiet_pipes();
    off_t position = (off_t)offset;
    long answer;
    do {
        answer = sendfile(socket, file, &position, count);
    } while (answer < 0 && errno == EINTR);
    end_quiet_pipes(&quiet, answer);
    return result_or_errno(answer);
}
