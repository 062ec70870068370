#define _GNU_SOURCE
#include "test_support.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

size_t test_allocated_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

int test_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int test_thread_id(void) { return gettid(); }

int test_deny_io_uring(int error) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

int test_connect_as(const char *name, unsigned user) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length > sizeof address.sun_path - 1) return -1;
    memcpy(address.sun_path + 1, name, length);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    pid_t child = fork();
    if (child != 0) return child;
    // Only calls that are safe in the child of a process with threads.
    if (user != (unsigned)-1 && (syscall(SYS_setresgid, user, user, user) || syscall(SYS_setresuid, user, user, user)))
        _exit(2);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, size) != 0) _exit(3);
    char byte;
    _exit(read(fd, &byte, 1) == 0 ? 0 : 4);
}

int test_set_terminal_size(int fd, int columns, int rows) {
    struct winsize size = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
    return ioctl(fd, TIOCSWINSZ, &size);
}

int test_open_terminal(int *controller, int *terminal, char *path) {
    *controller = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*controller < 0 || grantpt(*controller) != 0 || unlockpt(*controller) != 0) return -1;
    if (ptsname_r(*controller, path, 64) != 0) return -1;
    *terminal = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return *terminal < 0 ? -1 : 0;
}

int test_mount_small(const char *path, size_t size) {
    char options[64];
    snprintf(options, sizeof options, "size=%zu", size);
    return mount("rondo-test", path, "tmpfs", 0, options);
}

int test_unmount(const char *path) { return umount2(path, MNT_DETACH); }
