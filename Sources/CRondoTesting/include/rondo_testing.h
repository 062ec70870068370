// The clock of a simulation. Swift's clocks ask `clock_gettime`, and so do most libraries: this target defines that
// function for the whole process. On a thread that runs a simulation it answers virtual time; elsewhere the real time.
#ifndef RONDO_TESTING_H
#define RONDO_TESTING_H

#include <stdint.h>

// The calling thread's virtual time in nanoseconds; 0 if it has none.
extern _Thread_local uint64_t rondo_virtual_time __attribute__((tls_model("initial-exec")));

static inline uint64_t rondo_virtual_nanoseconds(void) { return rondo_virtual_time; }
static inline void rondo_set_virtual_nanoseconds(uint64_t nanoseconds) { rondo_virtual_time = nanoseconds; }

// What the real-time clock says, in seconds since 1970, when the virtual time is 0: 2001-09-09T01:46:40Z.
#define RONDO_VIRTUAL_EPOCH_SECONDS 1000000000ll

#endif
