// zlib, and what of it is a macro and so is not seen by Swift.
#ifndef RONDO_ZLIB_H
#define RONDO_ZLIB_H

#include <zlib.h>

// inflateInit2 for a gzip or zlib header, whichever comes.
static inline int rondo_inflate_start(z_stream *stream) { return inflateInit2(stream, 15 + 32); }

// inflateInit2 for deflate without a header, which some servers send.
static inline int rondo_inflate_start_raw(z_stream *stream) { return inflateInit2(stream, -15); }

// deflateInit2 for a gzip header, with the window and the memory that everybody takes.
static inline int rondo_deflate_start(z_stream *stream, int level) {
    return deflateInit2(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
}

#endif
