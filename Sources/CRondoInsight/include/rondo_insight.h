// What the inspector needs of C: a start without a call, and connections that are the user's own.
#ifndef RONDO_INSIGHT_H
#define RONDO_INSIGHT_H

#include <stdint.h>

// Written in Swift; called before `main`, in every program that is linked with it.
void rondo_insight_install(void);

// Takes a connection of a Unix listener, non-blocking and closed on exec. −EPERM: it was another user's, and is closed.
int rondo_accept_own(int listener);

// What a thread is doing at this moment.
enum { RONDO_SAMPLE_FRAMES = 96, RONDO_SAMPLE_CALLERS = 48 };
struct rondo_sample {
    // The task that runs on it; 0 for none.
    uint64_t task_id;
    // Where it is, innermost first: addresses within each call.
    uintptr_t frames[RONDO_SAMPLE_FRAMES];
    int32_t frame_count;
    // The frame that runs the loop's job: what is above it is the job's, what is below is the loop's. −1: not found.
    int32_t job_frame;
    // Who waits for the async function on the stack to return: where each will go on.
    uintptr_t callers[RONDO_SAMPLE_CALLERS];
    int32_t caller_count;
};

// Interrupts a thread of this process and looks at its stack: by a signal, SIGRTMIN + 13, whose handler unwinds it. A
// call that blocks there ends early with EINTR. Answers 0, or a negated errno: ETIMEDOUT if the thread does not answer
// within the time. One sample at a time.
int rondo_sample_thread(int thread, int milliseconds, struct rondo_sample *sample);

#endif
