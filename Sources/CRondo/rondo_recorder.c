#define _GNU_SOURCE
#include "rondo_recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int rondo_trace_folder_open(const char *path, int makes) {
    if (makes && mkdir(path, 0700) != 0 && errno != EEXIST) return -errno;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) return -errno;
    struct stat status;
    // In /tmp anybody may have made a folder of this name.
    if (fstat(folder, &status) != 0 || status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
        close(folder);
        return -EPERM;
    }
    return folder;
}

int rondo_trace_file_create(int folder, const char *name, uint64_t size) {
    // What is there was left behind by a dead process of the same number.
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT) return -errno;
    int file = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0) return -errno;
    // A block that is missing when memory is written would be a SIGBUS.
    int failure = posix_fallocate(file, 0, (off_t)size);
    if (failure != 0) {
        unlinkat(folder, name, 0);
        close(file);
        return -failure;
    }
    return file;
}

int rondo_trace_file_open(int folder, const char *name, uint64_t *size) {
    int file = openat(folder, name, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (file < 0) return -errno;
    struct stat status;
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(file);
        return -EINVAL;
    }
    *size = (uint64_t)status.st_size;
    return file;
}

uint64_t rondo_process_start(int process) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t count = read(file, text, sizeof text - 1);
    close(file);
    if (count <= 0) return 0;
    text[count] = 0;
    // The second field is the program's name in parentheses, and may hold anything.
    char *field = strrchr(text, ')');
    for (int number = 2; field && number < 22; number++) {
        field = strchr(field + 1, ' ');
    }
    return field ? strtoull(field + 1, NULL, 10) : 0;
}
