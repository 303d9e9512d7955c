/* metrics.h - what a server counts, over HTTP in the text format of Prometheus
 * (https://prometheus.io/docs/instrumenting/exposition_formats/).
 *
 * GET /metrics; everything else is 404 or 405. Few connections at once, small requests, none for long: who disturbs it disturbs nothing
 * else.
 */
#ifndef COROLLA_CLI_METRICS_H
#define COROLLA_CLI_METRICS_H

#include <corolla.h>

struct metrics;

/* at: HOST:PORT, port 0 takes a free one. The server is asked at each request, in a thread of its own. */
enum corolla_status metrics_start(struct metrics **out_metrics, const char *at, const struct corolla_server *server,
                                  struct corolla_error *err);
/* http://HOST:PORT/metrics */
const char *metrics_url(const struct metrics *metrics);
void metrics_stop(struct metrics *metrics); /* may be NULL; before the server stops */

/* The text; *out is given back with free(). NULL: no memory. */
char *metrics_text(const struct corolla_server_stats *stats, size_t *out_size);

#endif
