// zlib, and what of it is a macro and so is not seen by Swift.
#ifndef RONDO_ZLIB_H
#define RONDO_ZLIB_H

#include <zlib.h>

// inflateInit2 for a gzip or zlib header, whichever comes.
static inline int rondo_inflate_start(z_stream *stream) { return inflateInit2(stream, 15 + 32); }

// inflateInit2 for deflate without a header, which some servers send.
static inline int rondo_inflate_start_raw(z_stream *stream) { return inflateInit2(stream, -15); }

#endif
