// libcurl, and what of it Swift does not see: its functions with variable arguments, one here for each kind of
// argument, and values that are macros with a cast.
#ifndef RONDO_CURL_H
#define RONDO_CURL_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <sys/socket.h>

typedef size_t (*rondo_curl_data_function)(char *bytes, size_t size, size_t count, void *context);
typedef int (*rondo_curl_seek_function)(void *context, curl_off_t offset, int origin);
typedef int (*rondo_curl_close_function)(void *context, curl_socket_t socket);
typedef int (*rondo_curl_socket_function)(CURL *easy, curl_socket_t socket, int what, void *context, void *own);
typedef int (*rondo_curl_timer_function)(CURLM *multi, long milliseconds, void *context);

static inline CURLcode rondo_curl_set_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode rondo_curl_set_offset(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode rondo_curl_set_text(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode rondo_curl_set_pointer(CURL *easy, CURLoption option, void *value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode rondo_curl_set_list(CURL *easy, CURLoption option, struct curl_slist *value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode rondo_curl_set_data_function(CURL *easy, CURLoption option, rondo_curl_data_function value) {
    return curl_easy_setopt(easy, option, value);
}

static inline CURLcode rondo_curl_set_seek_function(CURL *easy, rondo_curl_seek_function value) {
    return curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, value);
}

static inline CURLcode rondo_curl_set_close_function(CURL *easy, rondo_curl_close_function value) {
    return curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, value);
}

// Sockets that programs started meanwhile do not inherit.
static inline curl_socket_t rondo_curl_open_socket(
    void *context, curlsocktype purpose, struct curl_sockaddr *address) {
    (void)context;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static inline CURLcode rondo_curl_set_open_socket(CURL *easy) {
    return curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, rondo_curl_open_socket);
}

// Called when the connection stands and the request is about to be sent. An older libcurl can't.
typedef int (*rondo_curl_connected_function)(
    void *context, char *peer, char *own, int peer_port, int own_port);

static inline CURLcode rondo_curl_set_connected_function(
    CURL *easy, rondo_curl_connected_function value, void *context) {
#if LIBCURL_VERSION_NUM >= 0x075000
    CURLcode code = curl_easy_setopt(easy, CURLOPT_PREREQDATA, context);
    return code ? code : curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, value);
#else
    (void)easy;
    (void)value;
    (void)context;
    return CURLE_UNKNOWN_OPTION;
#endif
}

static inline CURLcode rondo_curl_allow_only_http(CURL *easy) {
#if LIBCURL_VERSION_NUM >= 0x075500
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static inline CURLcode rondo_curl_get_long(CURL *easy, CURLINFO info, long *value) {
    return curl_easy_getinfo(easy, info, value);
}

static inline CURLcode rondo_curl_get_text(CURL *easy, CURLINFO info, char **value) {
    return curl_easy_getinfo(easy, info, value);
}

static inline CURLMcode rondo_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}

static inline CURLMcode rondo_curl_multi_set_socket_function(
    CURLM *multi, rondo_curl_socket_function value, void *context) {
    CURLMcode code = curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, context);
    return code ? code : curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, value);
}

static inline CURLMcode rondo_curl_multi_set_timer_function(
    CURLM *multi, rondo_curl_timer_function value, void *context) {
    CURLMcode code = curl_multi_setopt(multi, CURLMOPT_TIMERDATA, context);
    return code ? code : curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, value);
}

// The next message of a transfer that has ended: 1 and its handle and result, or 0.
static inline int rondo_curl_multi_next_end(CURLM *multi, CURL **easy, CURLcode *result) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        *easy = message->easy_handle;
        *result = message->data.result;
        return 1;
    }
    return 0;
}

// IDN names as they are asked for, where this libcurl can tell.
#if LIBCURL_VERSION_NUM >= 0x075800
static const unsigned rondo_curl_host_flags = CURLU_PUNYCODE;
#else
static const unsigned rondo_curl_host_flags = 0;
#endif

#endif
