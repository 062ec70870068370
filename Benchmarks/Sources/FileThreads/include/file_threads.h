// What the loop is compared with: threads that open, read and close files.
#ifndef FILE_THREADS_H
#define FILE_THREADS_H

#include <stdint.h>

// Reads `count` files with `threads` threads: each takes the next path, opens it, reads up to 64 KB, and closes it.
// Answers the number of bytes read, or −1 if a file can't be read.
int64_t read_with_threads(const char *const *paths, int count, int threads);

#endif
