// PostgreSQL's own client library. pkg-config says where its header is.
#include <libpq-fe.h>
