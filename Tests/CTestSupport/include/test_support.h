// What the tests need of the C library and Swift's Glibc module does not show.
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <stddef.h>

// Bytes that malloc has given out and not got back, all arenas together.
size_t test_allocated_bytes(void);

// pipe2 with O_CLOEXEC: both ends into `ends`; 0, or -1.
int test_pipe(int ends[2]);

// From now on io_uring_setup answers `error` in this process, as the seccomp profiles of containers have it; 0, or -1.
int test_deny_io_uring(int error);

// The kernel's number of the calling thread.
int test_thread_id(void);

// A process of its own connects to the Unix listener with that abstract name, as that user (-1: as we are), and waits
// for the end. Answers its number.
int test_connect_as(const char *name, unsigned user);

// Makes a pseudo terminal: its controlling end, the terminal and the terminal's path (at least 64 bytes); 0, or -1.
int test_open_terminal(int *controller, int *terminal, char *path);

// Sets the size of a terminal (TIOCSWINSZ); 0, or -1.
int test_set_terminal_size(int fd, int columns, int rows);

// Mounts a file system of so many bytes, in memory, at a folder; 0, or -1 where that is denied. And unmounts it.
int test_mount_small(const char *path, size_t size);
int test_unmount(const char *path);

#endif
