// A look at a thread that does not answer: what is on its stack?
//
// The handler runs on the thread that is looked at, in the middle of anything. So it calls nothing that takes a lock or
// allocates: the C library finds unwind tables without a lock since glibc 2.35, and memory is read by the kernel, so
// that a wrong address is an answer and not a crash.
#define _GNU_SOURCE
#include "rondo_insight.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

extern __attribute__((swiftcall)) void *swift_task_getCurrent(void);
extern __attribute__((swiftcall)) uint64_t swift_task_getJobTaskId(void *job);
// The runtime's ways to run a job: known by their addresses, never called from here.
extern char swift_job_run[], swift_job_run_on_task_executor[], swift_job_run_on_serial_and_task_executor[];

enum { free_for_use, asked, answering };
static _Atomic int state = free_for_use;
static struct rondo_sample taken;
static sem_t answered;
// The canonical frame address of each frame, for finding the async function's context.
static uintptr_t bases[RONDO_SAMPLE_FRAMES];
static int is_interrupted_seen;

static int peek(uintptr_t address, void *bytes, size_t count) {
    struct iovec here = {.iov_base = bytes, .iov_len = count}, there = {.iov_base = (void *)address, .iov_len = count};
    return syscall(SYS_process_vm_readv, getpid(), &here, 1UL, &there, 1UL, 0UL) == (long)count;
}

static int runs_a_job(uintptr_t address) {
    const uintptr_t starts[] = {(uintptr_t)swift_job_run, (uintptr_t)swift_job_run_on_task_executor,
                                (uintptr_t)swift_job_run_on_serial_and_task_executor};
    enum { longest = 400 };
    for (int index = 0; index < 3; index++) {
        if (address >= starts[index] && address < starts[index] + longest) return 1;
    }
    return 0;
}

static _Unwind_Reason_Code note_frame(struct _Unwind_Context *context, void *unused) {
    (void)unused;
    if (taken.frame_count == RONDO_SAMPLE_FRAMES) return _URC_END_OF_STACK;
    int is_exact = 0;
    uintptr_t address = _Unwind_GetIPInfo(context, &is_exact);
    // The frame that the signal interrupted: what came before is this handler.
    if (is_exact && !is_interrupted_seen) {
        is_interrupted_seen = 1;
        taken.frame_count = 0;
    }
    bases[taken.frame_count] = _Unwind_GetCFA(context);
    if (taken.job_frame < 0 && runs_a_job(address)) taken.job_frame = taken.frame_count;
    // A return address may be the next line's.
    taken.frames[taken.frame_count++] = is_exact ? address : address - 1;
    return _URC_NO_REASON;
}

// Below the runtime's frames of `swift_job_run…` stands the one async function of this stack. It keeps its context
// 24 bytes below its frame's base; each context begins with its caller's, and where that goes on.
static void note_callers(void) {
    if (taken.job_frame < 1) return;
    uintptr_t context;
    if (!peek(bases[taken.job_frame - 1] - 24, &context, sizeof context)) return;
    while (context != 0 && context % 16 == 0 && taken.caller_count < RONDO_SAMPLE_CALLERS) {
        uintptr_t words[2];
        if (!peek(context, words, sizeof words) || words[1] == 0) return;
        taken.callers[taken.caller_count++] = words[1];
        context = words[0];
    }
}

static _Unwind_Reason_Code stop(struct _Unwind_Context *context, void *unused) {
    (void)context, (void)unused;
    return _URC_END_OF_STACK;
}

static void handle(int number) {
    (void)number;
    int expected = asked;
    if (!atomic_compare_exchange_strong(&state, &expected, answering)) return;
    int before = errno;
    void *task = swift_task_getCurrent();
    taken.task_id = task == NULL ? 0 : swift_task_getJobTaskId(task);
    taken.frame_count = taken.caller_count = 0;
    taken.job_frame = -1;
    is_interrupted_seen = 0;
    _Unwind_Backtrace(note_frame, NULL);
    note_callers();
    errno = before;
    sem_post(&answered);
}

int rondo_sample_thread(int thread, int milliseconds, struct rondo_sample *sample) {
    static int is_ready;
    const int number = SIGRTMIN + 13;
    if (!is_ready) {
        sem_init(&answered, 0, 0);
        // The linker looks up what the handler calls when it is first called, under a lock: here, and not there.
        _Unwind_Backtrace(stop, NULL);
        void *task = swift_task_getCurrent();
        if (task != NULL) (void)swift_task_getJobTaskId(task);
        struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART | SA_ONSTACK};
        sigfillset(&action.sa_mask);
        if (sigaction(number, &action, NULL) != 0) return -errno;
        is_ready = 1;
    }
    // A sample that was given up may still be in its handler.
    if (atomic_load(&state) != free_for_use) return -EBUSY;
    atomic_store(&state, asked);
    if (syscall(SYS_tgkill, getpid(), thread, number) != 0) {
        int error = errno;
        atomic_store(&state, free_for_use);
        return -error;
    }
    struct timespec deadline;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    deadline.tv_nsec += milliseconds % 1000 * 1000000L;
    deadline.tv_sec += milliseconds / 1000 + deadline.tv_nsec / 1000000000;
    deadline.tv_nsec %= 1000000000;
    while (sem_clockwait(&answered, CLOCK_MONOTONIC, &deadline) != 0) {
        if (errno == EINTR) continue;
        // Not begun: it will find nothing to do. Else the next one waits for it.
        int expected = asked;
        if (atomic_compare_exchange_strong(&state, &expected, free_for_use)) return -ETIMEDOUT;
        while (sem_wait(&answered) != 0) {}
        break;
    }
    *sample = taken;
    atomic_store(&state, free_for_use);
    return 0;
}
