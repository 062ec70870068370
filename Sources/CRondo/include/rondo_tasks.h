// What can be seen of the Swift runtime's tasks from outside: when one ends, and what its memory says.
//
// The runtime's own interface for debuggers (symbols `_swift_concurrency_debug_…`) names the layout; where it is
// another than the one that is known here, `rondo_knows_task_layout` says so and nothing of this is used.
#ifndef RONDO_TASKS_H
#define RONDO_TASKS_H

#include <stddef.h>
#include <stdint.h>

// Watches tasks: a task whose first word is set to `rondo_watched_task()` calls `ended` right before it is freed, on
// the thread that lets go of it. Once for a process.
void rondo_watch_tasks(void (*ended)(void *task));

// The first word of a task as the runtime makes it, and of one that is watched.
uintptr_t rondo_plain_task(void);
uintptr_t rondo_watched_task(void);

// The code that a task will begin with, as an address; 0 if that can't be told. Only before it has run.
uintptr_t rondo_task_entry(uintptr_t task);

// Copies memory of this process; 0 if a part of it is not there.
int rondo_peek(uintptr_t address, void *bytes, size_t count);

#endif
