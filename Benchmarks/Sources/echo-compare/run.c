// One run: a fresh server on its CPU, the load on another, both ended before this returns.

#include "compare.h"

#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { start_limit_milliseconds = 15000, stop_limit_milliseconds = 5000 };

struct child {
    pid_t pid;
    int output; // the reading end of its standard output
};

// Runs a shell command in place of the shell, pinned, and killed should this program die.
static struct child start(const char *command, int cpu) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    char *line = NULL;
    if (asprintf(&line, "exec %s", command) < 0) fail("memory");
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (cpu >= 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(cpu, &set);
            if (sched_setaffinity(0, sizeof set, &set) != 0) fail("pinning to CPU %d", cpu);
        }
        dup2(ends[1], STDOUT_FILENO);
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        fail("sh");
    }
    free(line);
    close(ends[1]);
    return (struct child){.pid = pid, .output = ends[0]};
}

// True if the child has ended by itself within the time.
static bool ended_within(pid_t pid, int milliseconds, int *status) {
    for (uint64_t limit = now_nanoseconds() + (uint64_t)milliseconds * 1000000u; now_nanoseconds() < limit;
         usleep(1000)) {
        if (waitpid(pid, status, WNOHANG) == pid) return true;
    }
    return false;
}

static void stop(struct child *child, const char *name) {
    int status = 0;
    kill(child->pid, SIGTERM);
    if (!ended_within(child->pid, stop_limit_milliseconds, &status)) {
        fprintf(stderr, "echo-compare: %s did not end at SIGTERM, killed\n", name);
        kill(child->pid, SIGKILL);
        waitpid(child->pid, &status, 0);
    } else if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        fprintf(stderr, "echo-compare: %s ended with status %d\n", name, WEXITSTATUS(status));
    }
    close(child->output);
}

// Reads more of the child's output into the text. False at its end or after the time.
static bool read_more(const struct child *child, char *text, size_t capacity, int milliseconds) {
    size_t length = strlen(text);
    struct pollfd descriptor = {.fd = child->output, .events = POLLIN};
    if (length + 1 >= capacity || poll(&descriptor, 1, milliseconds) <= 0) return false;
    ssize_t count = read(child->output, text + length, capacity - length - 1);
    if (count <= 0) return false;
    text[length + (size_t)count] = 0;
    return true;
}

// The port in "listening on HOST:PORT", once the whole line is there. 0: not yet.
static uint16_t announced_port(const char *text) {
    const char *line = strstr(text, "listening on ");
    const char *end = line == NULL ? NULL : strchr(line, '\n');
    if (end == NULL) return 0;
    while (end > line && end[-1] != ':') end--;
    return (uint16_t)atoi(end);
}

static uint16_t unused_port(void) {
    int listener = listen_on_loopback(0, 0);
    uint16_t port = bound_port(listener);
    close(listener);
    return port;
}

static bool accepts(uint16_t port) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool connected = connect(descriptor, (struct sockaddr *)&address, sizeof address) == 0;
    close(descriptor);
    return connected;
}

static struct child start_server(const struct comparison *comparison, const struct server *server, uint16_t *port) {
    const char *place = strstr(server->command, "{port}");
    char *command = NULL;
    *port = place == NULL ? 0 : unused_port();
    int written = place == NULL ? asprintf(&command, "%s", server->command)
                                : asprintf(&command, "%.*s%u%s", (int)(place - server->command), server->command, *port,
                                           place + strlen("{port}"));
    if (written < 0) fail("memory");
    struct child child = start(command, comparison->server_cpu);
    free(command);
    char text[4096] = "";
    uint64_t limit = now_nanoseconds() + start_limit_milliseconds * 1000000ull;
    while (*port == 0 && read_more(&child, text, sizeof text, start_limit_milliseconds)) *port = announced_port(text);
    errno = 0;
    if (*port == 0) fail("%s did not print 'listening on HOST:PORT'", server->name);
    while (!accepts(*port)) {
        if (now_nanoseconds() > limit || waitpid(child.pid, NULL, WNOHANG) != 0) {
            errno = 0;
            fail("%s does not accept connections on port %u", server->name, *port);
        }
        usleep(5000);
    }
    return child;
}

static double number_after(const char *json, const char *key) {
    const char *found = strstr(json, key);
    return found == NULL ? 0 : strtod(found + strlen(key), NULL);
}

static struct result parse_result(const struct comparison *comparison, const char *json) {
    const char *score = strcmp(comparison->mode, "steady") == 0  ? "\"requestsPerSecond\":"
                        : strcmp(comparison->mode, "storm") == 0 ? "\"totalMilliseconds\":"
                                                                 : "\"microsecondsPerConnection\":";
    double requests = number_after(json, "\"requests\":");
    double switches =
        number_after(json, "\"serverVoluntarySwitches\":") + number_after(json, "\"serverInvoluntarySwitches\":");
    return (struct result){
        .score = number_after(json, score),
        .cpu_microseconds = number_after(json, "\"serverCpuMicrosecondsPerRequest\":"),
        .switches_per_request = requests > 0 ? switches / requests : 0,
        .p50_microseconds = number_after(json, "\"latencyMicrosecondsP50\":"),
        .p99_microseconds = number_after(json, "\"latencyMicrosecondsP99\":"),
        .server_share = number_after(json, "\"serverCpuShare\":"),
        .load_share = number_after(json, "\"loadCpuShare\":"),
        .resident_kibibytes = number_after(json, "\"serverResidentKibibytes\":"),
        .errors = number_after(json, "\"errors\":"),
    };
}

struct result run_once(const struct comparison *comparison, const struct server *server) {
    uint16_t port;
    struct child child = start_server(comparison, server, &port);
    bool steady = strcmp(comparison->mode, "steady") == 0;
    char *command = NULL;
    if (asprintf(&command,
                 "%s --json --port %u --pid %d --size %u --seconds %g --warmup %g --%s %u --concurrent %u --driver %s",
                 comparison->load_path, port, child.pid, comparison->size, comparison->seconds, comparison->warm_up,
                 steady ? "connections" : comparison->mode, comparison->connections, comparison->concurrent,
                 comparison->driver) < 0) {
        fail("memory");
    }
    struct child load = start(command, comparison->load_cpu);
    free(command);
    char json[4096] = "";
    int limit = (int)((comparison->seconds + comparison->warm_up + 15) * 1000), status = 0;
    while (read_more(&load, json, sizeof json, limit)) {}
    if (!ended_within(load.pid, 1000, &status)) {
        kill(load.pid, SIGKILL);
        waitpid(load.pid, &status, 0);
    }
    close(load.output);
    stop(&child, server->name);
    errno = 0;
    if (strchr(json, '}') == NULL) fail("the load on %s gave no result (status %d)", server->name, WEXITSTATUS(status));
    return parse_result(comparison, json);
}
