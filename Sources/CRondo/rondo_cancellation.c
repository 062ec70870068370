#include "rondo_cancellation.h"

#include <stddef.h>

#define SWIFT_CALL __attribute__((swiftcall))

typedef SWIFT_CALL void (*swift_cancellation_function)(__attribute__((swift_context)) void *context);

// The runtime's (stdlib/public/Concurrency: TaskStatus.cpp, TaskAlloc.cpp).
extern SWIFT_CALL void *swift_task_addCancellationHandler(swift_cancellation_function function, void *context);
extern SWIFT_CALL void swift_task_removeCancellationHandler(void *record);
extern SWIFT_CALL void *swift_task_getCurrent(void);
extern SWIFT_CALL void *swift_task_alloc(size_t size);
extern SWIFT_CALL void swift_task_dealloc(void *memory);

struct rondo_cancellation {
    void (*action)(void *object, uint64_t number);
    void *object;
    uint64_t number;
    void *record;
};

static SWIFT_CALL void call_action(__attribute__((swift_context)) void *context) {
    struct rondo_cancellation *cancellation = context;
    cancellation->action(cancellation->object, cancellation->number);
}

struct rondo_cancellation *rondo_cancellation_begin(void (*action)(void *object, uint64_t number), void *object,
                                                    uint64_t number) {
    struct rondo_cancellation *cancellation = swift_task_alloc(sizeof *cancellation);
    cancellation->action = action;
    cancellation->object = object;
    cancellation->number = number;
    cancellation->record = swift_task_addCancellationHandler(call_action, cancellation);
    return cancellation;
}

void rondo_cancellation_end(struct rondo_cancellation *cancellation) {
    swift_task_removeCancellationHandler(cancellation->record);
    swift_task_dealloc(cancellation);
}

struct executor {
    uintptr_t identity, implementation;
};
extern SWIFT_CALL struct executor swift_task_getCurrentExecutor(void);

// Exported for debuggers.
extern const uint32_t _swift_concurrency_debug_internal_layout_version;
extern const size_t _swift_concurrency_debug_asyncTaskSize;

int rondo_knows_task_layout(void) {
    return _swift_concurrency_debug_internal_layout_version == 1 && _swift_concurrency_debug_asyncTaskSize == 208;
}

uintptr_t rondo_current_actor(void) { return swift_task_getCurrentExecutor().identity; }

uintptr_t rondo_current_task(void) { return (uintptr_t)swift_task_getCurrent(); }
