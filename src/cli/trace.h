/* trace.h - where each token's time went: hop by hop, on the network, and in this process. */
#ifndef COROLLA_CLI_TRACE_H
#define COROLLA_CLI_TRACE_H

#include <corolla.h>

struct trace;

/* NULL: no memory. */
struct trace *trace_new(struct corolla_session *session);
/* A step of one token is done. */
void trace_step(struct trace *trace);
/* The table on stderr: medians and 99th percentiles of the tokens whose chain was the last one; nothing without tokens. */
void trace_print(struct trace *trace);
void trace_free(struct trace *trace); /* may be NULL */

#endif
