#define _GNU_SOURCE
#include "rondo_testing.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Thread_local uint64_t rondo_virtual_time __attribute__((tls_model("initial-exec")));

// Sanitizers call clock_gettime before they are ready for instrumented code.
#if defined(__clang__)
#define RONDO_PLAIN __attribute__((disable_sanitizer_instrumentation))
#else
#define RONDO_PLAIN
#endif

typedef int (*clock_function)(clockid_t, struct timespec *);

// The C library's own function, which does not enter the kernel; NULL until the constructor has run, and for ever in
// a static executable.
static clock_function real_clock_gettime;

__attribute__((constructor)) static void find_real_clock_gettime(void) {
    clock_function found = (clock_function)dlsym(RTLD_NEXT, "clock_gettime");
    __atomic_store_n(&real_clock_gettime, found, __ATOMIC_RELEASE);
}

// A definition in the program goes before the C library's and before the weak one of ThreadSanitizer.
RONDO_PLAIN int clock_gettime(clockid_t clock, struct timespec *time) {
    uint64_t now = rondo_virtual_time;
    if (now != 0) {
        int64_t epoch = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI
                            ? RONDO_VIRTUAL_EPOCH_SECONDS
                            : 0;
        time->tv_sec = epoch + (int64_t)(now / 1000000000u);
        time->tv_nsec = (long)(now % 1000000000u);
        return 0;
    }
    clock_function real = __atomic_load_n(&real_clock_gettime, __ATOMIC_ACQUIRE);
    if (real != NULL) return real(clock, time);
    return (int)syscall(SYS_clock_gettime, clock, time);
}
