#include "support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

void fail(const char *format, ...) {
    int cause = errno;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (cause != 0) fprintf(stderr, ": %s", strerror(cause));
    fputc('\n', stderr);
    exit(1);
}

uint64_t parse_number(const char *option, const char *text, uint64_t minimum, uint64_t maximum) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    bool valid = errno == 0 && end != text && *end == 0 && text[0] != '-' && value >= minimum && value <= maximum;
    errno = 0;
    if (!valid) {
        fail("%s: '%s' is not a number from %llu to %llu", option, text, (unsigned long long)minimum,
             (unsigned long long)maximum);
    }
    return value;
}

double parse_decimal(const char *option, const char *text, double minimum, double maximum) {
    char *end = NULL;
    double value = strtod(text, &end);
    errno = 0;
    if (end == text || *end != 0 || !(value >= minimum && value <= maximum)) {
        fail("%s: '%s' is not a number from %g to %g", option, text, minimum, maximum);
    }
    return value;
}

uint64_t raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) fail("setrlimit");
    return limit.rlim_max;
}

uint32_t connections_within(uint64_t file_limit) {
    if (file_limit > UINT32_MAX) return UINT32_MAX;
    return file_limit > 96 ? (uint32_t)(file_limit - 64) : 32;
}

int listen_on_loopback(uint16_t port, int extra_socket_flags) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | extra_socket_flags, 0);
    if (listener < 0) fail("socket");
    int one = 1;
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0) fail("SO_REUSEADDR");
    if (setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) != 0) fail("TCP_NODELAY");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) fail("bind to 127.0.0.1:%u", port);
    if (listen(listener, 4096) != 0) fail("listen");
    return listener;
}

uint16_t bound_port(int descriptor) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (getsockname(descriptor, (struct sockaddr *)&address, &length) != 0) fail("getsockname");
    return ntohs(address.sin_port);
}

int termination_descriptor(void) {
    signal(SIGPIPE, SIG_IGN);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0) fail("sigprocmask");
    int descriptor = signalfd(-1, &signals, SFD_CLOEXEC);
    if (descriptor < 0) fail("signalfd");
    return descriptor;
}

void announce_listening(uint16_t port) {
    printf("listening on 127.0.0.1:%u\n", port);
    fflush(stdout);
}

static bool read_small_file(const char *path, char *text, size_t capacity) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    size_t length = fread(text, 1, capacity - 1, file);
    fclose(file);
    text[length] = 0;
    return length > 0;
}

static uint64_t field_after(const char *text, const char *label) {
    const char *found = strstr(text, label);
    return found == NULL ? 0 : strtoull(found + strlen(label), NULL, 10);
}

// Context switches and CPU time are kept per thread: add up all of them. Threads that have ended are not counted.
bool read_process_usage(pid_t pid, struct process_usage *usage) {
    char path[320], text[8192];
    *usage = (struct process_usage){0};
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (threads == NULL) return false;
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", pid, entry->d_name);
        if (read_small_file(path, text, sizeof text)) usage->cpu_nanoseconds += strtoull(text, NULL, 10);
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", pid, entry->d_name);
        if (!read_small_file(path, text, sizeof text)) continue;
        usage->voluntary_switches += field_after(text, "\nvoluntary_ctxt_switches:");
        usage->involuntary_switches += field_after(text, "\nnonvoluntary_ctxt_switches:");
        usage->resident_kibibytes = field_after(text, "\nVmRSS:");
        usage->own_kibibytes = field_after(text, "\nRssAnon:");
    }
    closedir(threads);
    return true;
}
