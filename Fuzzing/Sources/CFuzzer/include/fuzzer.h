// libFuzzer's entry for programs that have a main of their own.
#ifndef RONDO_FUZZER_H
#define RONDO_FUZZER_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argument_count, char ***arguments, int (*call)(const uint8_t *data, size_t size));

#endif
