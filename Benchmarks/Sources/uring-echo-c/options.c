#include "options.h"

#include "support.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: uring-echo-c PORT [options]\nEchoes on 127.0.0.1:PORT (0: any) until SIGTERM.\n"
    "  --send completion|inline|call  how an echo is sent (default completion)\n"
    "  --no-wait-all            sends without MSG_WAITALL\n"
    "  --single-receive         a new receive per message instead of multishot\n"
    "  --poll-first             receives wait for readiness before the first attempt\n"
    "  --bundle                 one receive may fill several buffers (Linux 6.10; stride = size)\n"
    "  --separate               a buffer for each receive, not incremental ones (always so before Linux 6.12)\n"
    "  --buffers N              number of receive buffers, a power of two (default 16, separate 128)\n"
    "  --buffer-size BYTES      (default 65536, separate 16384)\n"
    "  --buffer-stride BYTES    distance between buffers (default: size + 64)\n"
    "  --published N            keep only the N most recently used buffers in the ring (default: all)\n"
    "  --huge-pages             receive buffers on huge pages\n"
    "  --sq N, --cq N           entries of the queues (default 1024 and 16384)\n"
    "  --wait-for N             completions to wait for (default 1)\n"
    "  --minimum-wait USEC      how long to wait for more than one (Linux 6.12)\n"
    "  --cooperative            COOP_TASKRUN instead of DEFER_TASKRUN\n"
    "  --plain-descriptor       do not register the ring's descriptor\n"
    "  --no-iowait              do not count waiting as I/O wait (Linux 6.15)\n"
    "  --statistics             counts to standard error at the end\n";

__attribute__((noreturn)) static void end_with_usage(int status) {
    fputs(usage, status == 0 ? stdout : stderr);
    exit(status);
}

static enum send_mode parse_send_mode(const char *text) {
    if (strcmp(text, "inline") == 0) return send_inline;
    if (strcmp(text, "completion") == 0) return send_completion;
    if (strcmp(text, "call") == 0) return send_call;
    end_with_usage(2);
}

struct options parse_options(int count, char **arguments) {
    enum {
        o_send = 1,
        o_no_wait_all,
        o_single,
        o_poll_first,
        o_bundle,
        o_separate,
        o_buffers,
        o_size,
        o_stride,
        o_published,
        o_huge,
        o_sq,
        o_cq,
        o_wait_for,
        o_minimum_wait,
        o_cooperative,
        o_plain,
        o_no_iowait,
        o_statistics,
        o_help
    };
    static const struct option names[] = {
        {"send", 1, 0, o_send},
        {"no-wait-all", 0, 0, o_no_wait_all},
        {"single-receive", 0, 0, o_single},
        {"poll-first", 0, 0, o_poll_first},
        {"bundle", 0, 0, o_bundle},
        {"separate", 0, 0, o_separate},
        {"buffers", 1, 0, o_buffers},
        {"buffer-size", 1, 0, o_size},
        {"buffer-stride", 1, 0, o_stride},
        {"published", 1, 0, o_published},
        {"huge-pages", 0, 0, o_huge},
        {"sq", 1, 0, o_sq},
        {"cq", 1, 0, o_cq},
        {"wait-for", 1, 0, o_wait_for},
        {"minimum-wait", 1, 0, o_minimum_wait},
        {"cooperative", 0, 0, o_cooperative},
        {"plain-descriptor", 0, 0, o_plain},
        {"no-iowait", 0, 0, o_no_iowait},
        {"statistics", 0, 0, o_statistics},
        {"help", 0, 0, o_help},
        {0, 0, 0, 0},
    };
    struct options options = {
        .wait_all = true,
        .incremental = true,
        .sq_entries = 1024,
        .cq_entries = 16384,
        .wait_for = 1,
    };
    for (int option; (option = getopt_long(count, arguments, "", names, NULL)) != -1;) {
        switch (option) {
        case o_send: options.send_mode = parse_send_mode(optarg); break;
        case o_no_wait_all: options.wait_all = false; break;
        case o_single: options.single_receive = true; break;
        case o_poll_first: options.poll_first = true; break;
        case o_bundle: options.bundle = true; break;
        case o_separate: options.incremental = false; break;
        case o_buffers: options.buffer_count = (uint32_t)parse_number("--buffers", optarg, 1, 32768); break;
        case o_size: options.buffer_size = (uint32_t)parse_number("--buffer-size", optarg, 16, 1u << 30); break;
        case o_stride: options.buffer_stride = (uint32_t)parse_number("--buffer-stride", optarg, 16, 1u << 30); break;
        case o_published: options.published = (uint32_t)parse_number("--published", optarg, 1, 32768); break;
        case o_huge: options.huge_pages = true; break;
        case o_sq: options.sq_entries = (uint32_t)parse_number("--sq", optarg, 1, 32768); break;
        case o_cq: options.cq_entries = (uint32_t)parse_number("--cq", optarg, 2, 65536); break;
        case o_wait_for: options.wait_for = (uint32_t)parse_number("--wait-for", optarg, 1, 65536); break;
        case o_minimum_wait:
            options.minimum_wait_microseconds = (uint32_t)parse_number("--minimum-wait", optarg, 1, 1000000);
            break;
        case o_cooperative: options.cooperative = true; break;
        case o_plain: options.plain_descriptor = true; break;
        case o_no_iowait: options.no_iowait = true; break;
        case o_statistics: options.statistics = true; break;
        case o_help: end_with_usage(0);
        default: end_with_usage(2);
        }
    }
    if (optind != count - 1) end_with_usage(2);
    options.port = (uint16_t)parse_number("PORT", arguments[optind], 0, 65535);
    if (options.bundle) options.incremental = false;
    if (options.bundle && options.single_receive) fail("--bundle needs multishot receives");
    if (options.buffer_count & (options.buffer_count - 1)) fail("--buffers must be a power of two");
    return options;
}

void choose_buffer_sizes(struct options *options) {
    if (options->buffer_count == 0) options->buffer_count = options->incremental ? 16 : 128;
    if (options->buffer_size == 0) options->buffer_size = options->incremental ? 65536 : 16384;
    if (options->published == 0 || options->published > options->buffer_count)
        options->published = options->buffer_count;
    // A stride of a power of two would put all buffers on the same cache sets.
    if (options->buffer_stride == 0) options->buffer_stride = options->buffer_size + 64;
    if (options->bundle) options->buffer_stride = options->buffer_size; // neighbours are sent as one
    if (options->buffer_stride < options->buffer_size) fail("--buffer-stride must not be below --buffer-size");
}
