/* metrics.c - see metrics.h. */
#include "cli/metrics.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16
#define CONNECTIONS_PER_ADDRESS 8
#define CONNECTION_BYTES ((size_t)16 << 10)
#define TIMEOUT_S 10
#define TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics {
    struct MHD_Daemon *daemon;
    const struct corolla_server *server;
    char url[160];
};

/* ---- the text -------------------------------------------------------------------------------------------------- */

static void head(FILE *f, const char *name, const char *type, const char *help) {
    fprintf(f, "# HELP corolla_%s %s\n# TYPE corolla_%s %s\n", name, help, name, type);
}

static void one(FILE *f, const char *name, const char *type, const char *help, uint64_t value) {
    head(f, name, type, help);
    fprintf(f, "corolla_%s %llu\n", name, (unsigned long long)value);
}

/* scale: of one unit of the histogram. */
static void histogram(FILE *f, const char *name, const char *help, const struct corolla_histogram *h, double scale) {
    uint64_t count = 0;
    head(f, name, "histogram", help);
    for (uint32_t i = 0; i + 1 < COROLLA_HISTOGRAM_SIZE; i++) {
        count += h->counts[i];
        fprintf(f, "corolla_%s_bucket{le=\"%.9g\"} %llu\n", name, scale * (double)(UINT64_C(1) << i), (unsigned long long)count);
    }
    count += h->counts[COROLLA_HISTOGRAM_SIZE - 1];
    fprintf(f, "corolla_%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)count);
    fprintf(f, "corolla_%s_sum %.9g\ncorolla_%s_count %llu\n", name, scale * (double)h->sum, name, (unsigned long long)count);
}

static void rows(FILE *f, const struct corolla_server_stats *s) {
    head(f, "rows_total", "counter", "Rows of hidden states that were computed through the blocks.");
    fprintf(f, "corolla_rows_total{kind=\"decode\"} %llu\n", (unsigned long long)s->decode_rows);
    fprintf(f, "corolla_rows_total{kind=\"prefill\"} %llu\n", (unsigned long long)s->prefill_rows);
}

static void failures(FILE *f, const struct corolla_server_stats *s) {
    head(f, "failures_total", "counter", "Refused openings and failed steps that clients were told of, by reason.");
    for (int i = COROLLA_OK + 1; i < COROLLA_STATUS_COUNT; i++)
        fprintf(f, "corolla_failures_total{reason=\"%s\"} %llu\n", corolla_status_name((enum corolla_status)i),
                (unsigned long long)s->failures[i]);
}

char *metrics_text(const struct corolla_server_stats *s, size_t *out_size) {
    char *text = NULL;
    FILE *f = open_memstream(&text, out_size);
    if (!f) return NULL;
    one(f, "blocks", "gauge", "Blocks that are hosted.", s->end - s->begin);
    one(f, "first_block", "gauge", "The first of them.", s->begin);
    one(f, "sessions", "gauge", "Open sessions.", s->sessions);
    one(f, "clients", "gauge", "Keys that have sessions.", s->clients);
    one(f, "steps", "gauge", "Steps that wait or compute.", s->steps);
    one(f, "cache_tokens", "gauge", "KV budget of all sessions together, in tokens.", s->cache_tokens);
    one(f, "sessions_swapped", "gauge", "Idle sessions that are on disk.", s->swapped);
    one(f, "prefixes", "gauge", "Closed sessions that are kept for what they begin with.", s->prefixes);
    one(f, "swaps_total", "counter", "Idle sessions that came back from disk.", s->swaps);
    one(f, "cache_tokens_left", "gauge", "KV that is not promised to a session, in tokens.", s->cache_tokens_left);
    one(f, "sessions_opened_total", "counter", "Sessions that were opened.", s->sessions_opened);
    rows(f, s);
    one(f, "replayed_rows_total", "counter", "Kept rows that were sent again, to servers that took over.", s->replayed_rows);
    one(f, "received_bytes_total", "counter", "Bytes received over all links, TLS included.", s->bytes_received);
    one(f, "sent_bytes_total", "counter", "Bytes sent over all links, TLS included.", s->bytes_sent);
    failures(f, s);
    histogram(f, "turn_seconds", "What turns of decode steps took.", &s->turn_us, 1e-6);
    histogram(f, "turn_sessions", "Sessions that shared a turn of decode steps.", &s->turn_sessions, 1);
    histogram(f, "queue_seconds", "What decode steps waited for their turn.", &s->queue_us, 1e-6);
    bool good = !ferror(f);
    if (fclose(f) == 0 && good) return text;
    free(text);
    return NULL;
}

/* ---- HTTP ------------------------------------------------------------------------------------------------------ */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned code, char *text, size_t size, enum MHD_ResponseMemoryMode mode) {
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, mode);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, TYPE);
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result plain(struct MHD_Connection *connection, unsigned code, char *text) {
    return answer(connection, code, text, strlen(text), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *upload, size_t *upload_size, void **request) {
    static char not_found[] = "only /metrics is here\n", not_allowed[] = "only GET\n";
    static int seen;
    struct metrics *m = user;
    (void)version, (void)upload;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return *upload_size > 0 ? MHD_NO : plain(connection, MHD_HTTP_METHOD_NOT_ALLOWED, not_allowed);
    if (!*request) { /* the headers; the answer comes with the next call */
        *request = &seen;
        return MHD_YES;
    }
    if (*upload_size > 0) return MHD_NO;
    if (strcmp(url, "/metrics") != 0) return plain(connection, MHD_HTTP_NOT_FOUND, not_found);
    struct corolla_server_stats stats;
    size_t size;
    corolla_server_stats(m->server, &stats);
    char *text = metrics_text(&stats, &size);
    return text ? answer(connection, MHD_HTTP_OK, text, size, MHD_RESPMEM_MUST_FREE) : MHD_NO;
}

/* ---- where it listens ------------------------------------------------------------------------------------------ */

/* "HOST:PORT" or "[HOST]:PORT" into its parts. */
static bool split(const char *at, char host[64], char port[8]) {
    const char *colon = strrchr(at, ':');
    size_t n = colon ? (size_t)(colon - at) : 0;
    bool brackets = n >= 2 && at[0] == '[' && at[n - 1] == ']';
    if (brackets) at++, n -= 2;
    if (n == 0 || n >= 64 || strlen(colon + 1) == 0 || strlen(colon + 1) >= 8 || (!brackets && memchr(at, ':', n))) return false;
    memcpy(host, at, n);
    host[n] = '\0';
    strcpy(port, colon + 1);
    return true;
}

static enum corolla_status refuse(struct corolla_error *err, enum corolla_status status, const char *at, const char *why) {
    if (err) {
        err->status = status;
        snprintf(err->message, sizeof err->message, "--metrics %.100s: %.300s", at, why);
    }
    return status;
}

static void name_url(struct metrics *m, const struct sockaddr *address) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(m->daemon, MHD_DAEMON_INFO_BIND_PORT);
    char host[64] = "";
    bool ipv6 = address->sa_family == AF_INET6;
    const void *bytes = ipv6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
                             : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
    inet_ntop(address->sa_family, bytes, host, sizeof host);
    snprintf(m->url, sizeof m->url, ipv6 ? "http://[%s]:%u/metrics" : "http://%s:%u/metrics", host, info ? info->port : 0u);
}

static enum corolla_status listen_at(struct metrics *m, const char *at, struct corolla_error *err) {
    char host[64], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | AI_PASSIVE}, *found;
    if (!split(at, host, port)) return refuse(err, COROLLA_INVALID, at, "a HOST:PORT to listen on, such as 127.0.0.1:9100");
    int problem = getaddrinfo(host, port, &hints, &found);
    if (problem) return refuse(err, COROLLA_INVALID, at, gai_strerror(problem));
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | (found->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    m->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, m, MHD_OPTION_SOCK_ADDR, found->ai_addr, MHD_OPTION_CONNECTION_LIMIT,
                         CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT, CONNECTIONS_PER_ADDRESS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S, MHD_OPTION_END);
    if (m->daemon) name_url(m, found->ai_addr);
    freeaddrinfo(found);
    return m->daemon ? COROLLA_OK : refuse(err, COROLLA_IO, at, "cannot listen there: is the port in use?");
}

enum corolla_status metrics_start(struct metrics **out, const char *at, const struct corolla_server *server, struct corolla_error *err) {
    struct metrics *m = calloc(1, sizeof *m);
    if (!m) return refuse(err, COROLLA_NOMEM, at, "out of memory");
    m->server = server;
    enum corolla_status status = listen_at(m, at, err);
    if (status)
        metrics_stop(m);
    else
        *out = m;
    return status;
}

const char *metrics_url(const struct metrics *m) { return m->url; }

void metrics_stop(struct metrics *m) {
    if (!m) return;
    if (m->daemon) MHD_stop_daemon(m->daemon);
    free(m);
}
