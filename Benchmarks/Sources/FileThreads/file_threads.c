#include "file_threads.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { SIZE = 64 * 1024, THREADS = 64 };

struct work {
    const char *const *paths;
    int count;
    atomic_int next;
    atomic_llong bytes;
    atomic_bool failed;
};

static void *read_files(void *argument) {
    struct work *work = argument;
    char *memory = malloc(SIZE);
    int64_t bytes = 0;
    for (;;) {
        int index = atomic_fetch_add(&work->next, 1);
        if (index >= work->count) break;
        int fd = open(work->paths[index], O_RDONLY | O_CLOEXEC);
        ssize_t count = fd < 0 ? -1 : pread(fd, memory, SIZE, 0);
        if (count < 0) {
            atomic_store(&work->failed, true);
        } else {
            bytes += count;
        }
        if (fd >= 0) close(fd);
    }
    free(memory);
    atomic_fetch_add(&work->bytes, bytes);
    return NULL;
}

int64_t read_with_threads(const char *const *paths, int count, int threads) {
    struct work work = {.paths = paths, .count = count};
    pthread_t handles[THREADS];
    if (threads > THREADS) threads = THREADS;
    int started = 0;
    while (started < threads && pthread_create(&handles[started], NULL, read_files, &work) == 0) started++;
    for (int index = 0; index < started; index++) pthread_join(handles[index], NULL);
    return atomic_load(&work.failed) || started == 0 ? -1 : atomic_load(&work.bytes);
}
