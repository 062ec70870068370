// Calls on files that Swift does not see because the C library hides them behind feature tests, and a wait for a lock
// that another thread can end.
#ifndef RONDO_FILES_H
#define RONDO_FILES_H

#include <stddef.h>
#include <stdint.h>

// The flags that Swift can't import.
#define RONDO_AT_FDCWD (-100)
#define RONDO_AT_SYMLINK_NOFOLLOW 0x100
#define RONDO_AT_REMOVEDIR 0x200
#define RONDO_RENAME_NOREPLACE 1u
#define RONDO_RENAME_EXCHANGE 2u
// Open an unnamed file in a folder (O_TMPFILE).
int32_t rondo_open_unnamed_flag(void);

// One piece of memory of a read or write of several (struct iovec).
struct rondo_memory {
    void *start;
    size_t count;
};

// Each answers a value that is not negative, or the negated errno; a signal does not end them.
int rondo_truncate(int fd, uint64_t size);
int rondo_allocate(int fd, uint64_t offset, uint64_t count);
int rondo_rename(int from_folder, const char *from, int to_folder, const char *to, uint32_t flags);
int rondo_unlink(int folder, const char *path, int flags);
int rondo_make_folder(int folder, const char *path, uint32_t mode);
int rondo_link(int from_folder, const char *from, int to_folder, const char *to);
int rondo_symbolic_link(const char *target, int folder, const char *path);
int rondo_read_link(int folder, const char *path, void *memory, size_t count);
int rondo_set_mode(int fd, uint32_t mode);
// Times since 1970; accessed and modified.
int rondo_set_times(int fd, const int64_t seconds[2], const int64_t nanoseconds[2]);
int rondo_read_parts(int fd, const struct rondo_memory *parts, size_t count, uint64_t offset);
int rondo_write_parts(int fd, const struct rondo_memory *parts, size_t count, uint64_t offset);
// Opens for reading what a path leads to below a folder: neither `..`, nor a link, nor somebody who moves folders
// meanwhile leads out of it (-EXDEV). Never waits for the other end of a pipe. Where the kernel or a sandbox lacks
// openat2, and when `by_steps` asks for it, name by name; symbolic links are not followed then (-ELOOP, -ENOTDIR).
int rondo_open_beneath(const char *folder, const char *path, int by_steps);
// Opens for reading, if nothing on the way to it has to come from a disk; below `folder` as above, if it is not NULL.
// Any error may mean only that this is not so.
int rondo_open_cached(const char *folder, const char *path);
// Reads what is in the page cache: -EAGAIN if nothing of it is, -EOPNOTSUPP if the file system can't tell.
int rondo_read_cached(int fd, void *memory, size_t count, uint64_t offset);
// Whether it is a regular file of tmpfs or its like, which is in memory as a program's own is: only those have seals
// (man 2 fcntl). Asks nobody outside of the kernel, where fstatfs would ask a file server.
int rondo_is_memory_file(int fd);
// The next entries of an open folder as `struct linux_dirent64`; 0 at the end.
int rondo_read_folder(int fd, void *memory, size_t count);
// IN_ONLYDIR with IN_EXCL_UNLINK, and IN_ISDIR.
#define RONDO_WATCH_ONLY_FOLDERS 0x05000000u
#define RONDO_WATCH_IS_FOLDER 0x40000000
// inotify: a new instance (which never blocks a read), a watch's number, and its end.
int rondo_open_watch(void);
int rondo_add_watch(int fd, const char *path, uint32_t mask);
int rondo_remove_watch(int fd, int number);
// flock(2) with LOCK_NB, or an unlock: never waits.
int rondo_lock_now(int fd, int operation);

// A wait for flock(2) on a thread of its own, which another thread can end.
//
// Nothing else than a signal ends a flock that waits. A signal that comes before the system call has begun would be
// lost if the handler did no more than interrupt it; so the handler jumps out of whatever the thread is doing between
// two marks. If it jumps when the call has just got the lock, the lock is given back.
struct rondo_lock_wait;
struct rondo_lock_wait *rondo_lock_wait_create(void);
void rondo_lock_wait_destroy(struct rondo_lock_wait *wait);
// On the waiting thread: 0, -ECANCELED if the wait was ended, or another negated errno.
int rondo_lock_wait_run(struct rondo_lock_wait *wait, int fd, int operation);
// From any thread, before, while or after the wait runs.
void rondo_lock_wait_cancel(struct rondo_lock_wait *wait);

#endif
