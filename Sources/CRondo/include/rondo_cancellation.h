// How a waiting task hears that it was cancelled, without the price of `withTaskCancellationHandler`.
//
// That function is generic and never inlined: three async frames and two closures for each read and each write, a
// tenth of what an echo server spends in user space. Here are the runtime calls that it makes itself; compilers emit
// all of them into programs, so their names and meaning are part of the runtime's stable interface.
//
// The note comes from the task's own stack-like allocator, so begin and end must nest, in one async function.
#ifndef RONDO_CANCELLATION_H
#define RONDO_CANCELLATION_H

#include <stdint.h>

struct rondo_cancellation;

// Calls `action(object, number)` when the current task is cancelled, on the thread that cancels: at once, if it is
// cancelled already. Must be called in a task.
struct rondo_cancellation *rondo_cancellation_begin(void (*action)(void *object, uint64_t number), void *object,
                                                    uint64_t number);

// The task that runs on this thread, as an address; 0 outside of tasks.
uintptr_t rondo_current_task(void);

// The actor whose code the current task runs, as the address that names its executor; 0 outside of actors.
uintptr_t rondo_current_actor(void);

// Whether the runtime's tasks are laid out as Rondo knows them: a word of the runtime's own debugging interface.
int rondo_knows_task_layout(void);

// Ends that. The action is not running any more when this returns.
void rondo_cancellation_end(struct rondo_cancellation *cancellation);

#endif
