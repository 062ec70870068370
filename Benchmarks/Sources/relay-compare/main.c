// What a relay costs with chunks alone and with bulk moved by the kernel: `relay-compare PATH-OF-RELAY [MIB [ROUNDS]]`.
//
// Two relays stand between this program's sender and its receiver, one for each way, and take turns. Measured are the
// CPU time of the relay's process (all threads, from schedstat) and the wall time: for so many MiB in one direction,
// written in pieces, and for round trips of 64 bytes. The relays run on CPU 0, this program on CPU 1.

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

enum { WAYS = 2, ROUNDS_MAX = 101, ROUND_TRIPS = 20000, MESSAGE = 64, PIECE_MAX = 1 << 20 };

static const char *const ways[WAYS] = {"chunks", "copy"};

struct relay {
    pid_t pid;
    uint16_t port;
};

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); // with one CPU everything runs there
}

static struct relay start_relay(const char *path, const char *way, uint16_t server_port) {
    int ends[2];
    char port[8], line[128];
    snprintf(port, sizeof port, "%u", (unsigned)server_port);
    if (pipe(ends) < 0) fail("pipe");
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
        pin(0);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(path, path, way, port, (char *)NULL);
        fail("exec %s", path);
    }
    close(ends[1]);
    FILE *output = fdopen(ends[0], "r");
    if (output == NULL || fgets(line, sizeof line, output) == NULL) fail("%s did not start", path);
    const char *colon = strrchr(line, ':');
    if (colon == NULL) fail("%s did not say where it listens", path);
    fclose(output);
    return (struct relay){pid, (uint16_t)atoi(colon + 1)};
}

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect to the relay");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

struct stream {
    int fd;
    size_t piece;
    uint64_t bytes;
};

static void *send_stream(void *argument) {
    struct stream *stream = argument;
    char *piece = calloc(1, PIECE_MAX);
    for (uint64_t left = stream->bytes; left > 0;) {
        ssize_t count = write(stream->fd, piece, left < stream->piece ? left : stream->piece);
        if (count < 0) fail("write");
        left -= (uint64_t)count;
    }
    free(piece);
    shutdown(stream->fd, SHUT_WR);
    return NULL;
}

static void receive_exactly(int fd, char *memory, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = read(fd, memory + done, size - done);
        if (count <= 0) fail("read");
        done += (size_t)count;
    }
}

static void transfer(int client, int server, size_t piece, uint64_t bytes) {
    struct stream stream = {client, piece, bytes};
    pthread_t sender;
    if (pthread_create(&sender, NULL, send_stream, &stream) != 0) fail("thread");
    char *memory = malloc(256 * 1024);
    uint64_t received = 0;
    ssize_t count;
    while ((count = read(server, memory, 256 * 1024)) > 0) received += (uint64_t)count;
    if (count < 0 || received != bytes) fail("%llu bytes came", (unsigned long long)received);
    free(memory);
    pthread_join(sender, NULL);
}

static void play_ping_pong(int client, int server) {
    char memory[MESSAGE] = {0};
    for (int round = 0; round < ROUND_TRIPS; round++) {
        if (write(client, memory, sizeof memory) != sizeof memory) fail("write");
        receive_exactly(server, memory, sizeof memory);
        if (write(server, memory, sizeof memory) != sizeof memory) fail("write");
        receive_exactly(client, memory, sizeof memory);
    }
    shutdown(client, SHUT_WR);
}

struct figures {
    double cpu[WAYS][ROUNDS_MAX], wall[WAYS][ROUNDS_MAX], ratio[ROUNDS_MAX];
};

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void print_median(const char *name, double *values, int count, const char *unit) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    printf("  %-22s %9.3f (%.3f–%.3f) %s\n", name, values[count / 2], values[0], values[count - 1], unit);
}

// One round of one way; `piece` 0 for round trips.
static void measure(
    const struct relay *relay, int listener, size_t piece, uint64_t mebibytes, double *cpu, double *wall) {
    int client = connect_to(relay->port);
    int server = accept(listener, NULL, NULL);
    struct process_usage before, after;
    if (server < 0 || !read_process_usage(relay->pid, &before)) fail("the relay does not connect");
    uint64_t start = now_nanoseconds();
    if (piece == 0) {
        play_ping_pong(client, server);
    } else {
        transfer(client, server, piece, mebibytes << 20);
    }
    uint64_t nanoseconds = now_nanoseconds() - start;
    if (!read_process_usage(relay->pid, &after)) fail("the relay has ended");
    shutdown(server, SHUT_WR);
    char byte;
    while (read(client, &byte, 1) > 0) {}
    close(client);
    close(server);
    double units = piece == 0 ? ROUND_TRIPS / 1e3 : (double)mebibytes * 1e3;
    *cpu = (double)(after.cpu_nanoseconds - before.cpu_nanoseconds) / 1e3 / units;
    *wall = piece == 0 ? (double)nanoseconds / 1e3 / ROUND_TRIPS : (double)mebibytes / ((double)nanoseconds / 1e9);
    if (piece == 0) *cpu /= 1e3;
}

static void compare(const struct relay *relays, int listener, size_t piece, uint64_t mebibytes, int rounds) {
    static struct figures figures;
    for (int round = -1; round < rounds; round++) { // the first one warms up
        int at = round < 0 ? 0 : round;
        for (int turn = 0; turn < WAYS; turn++) {
            int way = (turn + at) % WAYS;
            measure(&relays[way], listener, piece, mebibytes, &figures.cpu[way][at], &figures.wall[way][at]);
        }
        figures.ratio[at] = figures.cpu[1][at] / figures.cpu[0][at];
    }
    if (piece == 0) {
        printf("round trips of %d bytes, %d a round, %d rounds\n", MESSAGE, ROUND_TRIPS, rounds);
    } else {
        printf("%llu MiB, written %zu KiB at a time, %d rounds\n", (unsigned long long)mebibytes, piece / 1024, rounds);
    }
    for (int way = 0; way < WAYS; way++) {
        char name[32];
        snprintf(name, sizeof name, "%s, CPU", ways[way]);
        print_median(name, figures.cpu[way], rounds, piece == 0 ? "us a round trip" : "ms a MiB");
        snprintf(name, sizeof name, "%s, wall", ways[way]);
        print_median(name, figures.wall[way], rounds, piece == 0 ? "us a round trip" : "MiB/s");
    }
    print_median("CPU, copy to chunks", figures.ratio, rounds, "times");
}

int main(int argc, char **argv) {
    if (argc < 2) fail("usage: relay-compare PATH-OF-RELAY [MIB [ROUNDS]]");
    uint64_t mebibytes = argc > 2 ? parse_number("MIB", argv[2], 1, 1 << 20) : 512;
    int rounds = argc > 3 ? (int)parse_number("ROUNDS", argv[3], 1, ROUNDS_MAX) : 15;
    int listener = listen_on_loopback(0, 0);
    struct relay relays[WAYS];
    for (int way = 0; way < WAYS; way++) relays[way] = start_relay(argv[1], ways[way], bound_port(listener));
    pin(1);
    compare(relays, listener, 64 * 1024, mebibytes, rounds);
    compare(relays, listener, PIECE_MAX, mebibytes, rounds);
    compare(relays, listener, 0, 0, rounds);
    for (int way = 0; way < WAYS; way++) {
        kill(relays[way].pid, SIGKILL);
        waitpid(relays[way].pid, NULL, 0);
    }
    return 0;
}
