#define _GNU_SOURCE
#include "test_support.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

size_t test_allocated_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

int test_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

int test_thread_id(void) { return gettid(); }
