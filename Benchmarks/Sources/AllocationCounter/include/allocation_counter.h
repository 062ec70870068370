// Counts what the calling process allocates: linking this target replaces malloc and its kin.
#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

#include <stdint.h>

// Calls of malloc, calloc, realloc and the aligned ones so far, of all threads.
uint64_t allocation_count(void);

#endif
