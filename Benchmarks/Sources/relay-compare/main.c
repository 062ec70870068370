// What a relay costs with chunks alone and with bulk moved by the kernel:
// `relay-compare PATH-OF-RELAY [MIB [ROUNDS [files]]]`.
//
// Two relays stand between this program's sender and its receiver, one for each way, and take turns. Measured are the
// CPU time of the relay's process (all threads, from schedstat) and the wall time: for so many MiB in one direction,
// written in pieces, and for round trips of 64 bytes. The relays run on CPU 0, this program on CPU 1. Then the same for
// two servers of a file, in memory: a large one, and small ones, each over a connection of its own.

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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

enum { WAYS = 2, ROUNDS_MAX = 101, ROUND_TRIPS = 20000, MESSAGE = 64, PIECE_MAX = 1 << 20, SMALL_FILES = 2000 };

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

static struct relay start_relay(const char *path, const char *way, const char *goal) {
    int ends[2];
    char line[128];
    if (pipe(ends) < 0) fail("pipe");
    pid_t pid = fork();
    if (pid < 0) fail("fork");
    if (pid == 0) {
        pin(0);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(path, path, way, goal, (char *)NULL);
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

// One round of one way: `count` connections, each of which is sent the file.
static void measure_file(const struct relay *server, int count, uint64_t bytes, double *cpu, double *wall) {
    struct process_usage before, after;
    char *memory = malloc(PIECE_MAX);
    if (!read_process_usage(server->pid, &before)) fail("the file's server has ended");
    uint64_t start = now_nanoseconds();
    for (int i = 0; i < count; i++) {
        int fd = connect_to(server->port);
        uint64_t received = 0;
        ssize_t answer;
        while ((answer = read(fd, memory, PIECE_MAX)) > 0) received += (uint64_t)answer;
        if (answer < 0 || received != bytes) fail("%llu bytes came", (unsigned long long)received);
        close(fd);
    }
    double nanoseconds = (double)(now_nanoseconds() - start);
    if (!read_process_usage(server->pid, &after)) fail("the file's server has ended");
    free(memory);
    double used = (double)(after.cpu_nanoseconds - before.cpu_nanoseconds), mebibytes = (double)bytes / (1 << 20);
    *cpu = count == 1 ? used / 1e6 / mebibytes : used / 1e3 / count;
    *wall = count == 1 ? mebibytes / (nanoseconds / 1e9) : nanoseconds / 1e3 / count;
}

static void compare_files(const char *program, int count, uint64_t bytes, int rounds) {
    static struct figures figures;
    char path[] = "/tmp/relay-compare-XXXXXX";
    int file = mkstemp(path);
    char *piece = calloc(1, PIECE_MAX);
    for (uint64_t left = bytes; left > 0;) {
        ssize_t written = write(file, piece, left < PIECE_MAX ? left : PIECE_MAX);
        if (written <= 0) fail("write %s", path);
        left -= (uint64_t)written;
    }
    struct relay servers[WAYS];
    for (int way = 0; way < WAYS; way++) servers[way] = start_relay(program, ways[way], path);
    for (int round = -1; round < rounds; round++) {
        int at = round < 0 ? 0 : round;
        for (int turn = 0; turn < WAYS; turn++) {
            int way = (turn + at) % WAYS;
            measure_file(&servers[way], count, bytes, &figures.cpu[way][at], &figures.wall[way][at]);
        }
        figures.ratio[at] = figures.cpu[1][at] / figures.cpu[0][at];
    }
    printf("a file of %llu KiB, %d times, %d rounds\n", (unsigned long long)(bytes >> 10), count, rounds);
    for (int way = 0; way < WAYS; way++) {
        char name[32];
        snprintf(name, sizeof name, "%s, CPU", ways[way]);
        print_median(name, figures.cpu[way], rounds, count == 1 ? "ms a MiB" : "us a file");
        snprintf(name, sizeof name, "%s, wall", ways[way]);
        print_median(name, figures.wall[way], rounds, count == 1 ? "MiB/s" : "us a file");
        kill(servers[way].pid, SIGKILL);
        waitpid(servers[way].pid, NULL, 0);
    }
    print_median("CPU, copy to chunks", figures.ratio, rounds, "times");
    free(piece);
    close(file);
    unlink(path);
}

static void compare_relays(const char *program, uint64_t mebibytes, int rounds) {
    int listener = listen_on_loopback(0, 0);
    struct relay relays[WAYS];
    char port[8];
    snprintf(port, sizeof port, "%u", (unsigned)bound_port(listener));
    for (int way = 0; way < WAYS; way++) relays[way] = start_relay(program, ways[way], port);
    compare(relays, listener, 64 * 1024, mebibytes, rounds);
    compare(relays, listener, PIECE_MAX, mebibytes, rounds);
    compare(relays, listener, 0, 0, rounds);
    for (int way = 0; way < WAYS; way++) {
        kill(relays[way].pid, SIGKILL);
        waitpid(relays[way].pid, NULL, 0);
    }
    close(listener);
}

int main(int argc, char **argv) {
    if (argc < 2) fail("usage: relay-compare PATH-OF-RELAY [MIB [ROUNDS [files]]]");
    uint64_t mebibytes = argc > 2 ? parse_number("MIB", argv[2], 1, 1 << 20) : 512;
    int rounds = argc > 3 ? (int)parse_number("ROUNDS", argv[3], 1, ROUNDS_MAX) : 15;
    pin(1);
    if (argc < 5) compare_relays(argv[1], mebibytes, rounds);
    compare_files(argv[1], 1, mebibytes << 20, rounds);
    compare_files(argv[1], SMALL_FILES / 10, 1 << 20, rounds);
    compare_files(argv[1], SMALL_FILES, 64 << 10, rounds);
    return 0;
}
