/* driver.h - a client made of raw messages, for tests of servers: it sends what a test says, right or wrong, and keeps what comes.
 *
 * It has an identity and a home of its own, and its net in a thread of its own. Functions end the test with a message when
 * something does not happen within DRIVER_WAIT_MS; nothing waits for a fixed time. Called by the thread of the test.
 */
#ifndef COROLLA_TESTS_DRIVER_H
#define COROLLA_TESTS_DRIVER_H

#include "net/net.h"

#define DRIVER_WAIT_MS 60000 /* against hangs */

struct received {
    struct received *next;
    const struct link *link; /* to compare; it may be gone */
    uint32_t stream;
    enum msg_kind kind;
    size_t header_size, body_size;
    uint8_t *header, *body;
};

struct driver;
struct driver *driver_open(void);
void driver_close(struct driver *driver);
const struct node_ref *driver_self(const struct driver *driver);

/* A link to the node with this join code; the node in *out_node unless that is NULL. */
struct link *driver_dial(struct driver *driver, const char *join_code, struct node_ref *out_node);
uint32_t driver_stream(struct driver *driver, struct link *link);
/* Ends the link with GOODBYE(TIMEOUT), and waits until it is down: to the peer this client was lost, and did not leave. */
void driver_cut(struct driver *driver, struct link *link);
/* The body is copied. */
void driver_send(struct driver *driver, struct link *link, uint32_t stream, enum msg_kind kind, const uint8_t *header, size_t header_size,
                 const void *body, size_t body_size);

/* The next message on that link and stream; stream 0: on any. Give back with received_free(). */
struct received *driver_receive(struct driver *driver, const struct link *link, uint32_t stream);
/* How many messages came on that stream that nobody has received. */
unsigned driver_pending(struct driver *driver, const struct link *link, uint32_t stream);
void received_free(struct received *r);
/* Waits until the link is down. out_why, when not NULL, receives what the net says about it, the peer's own status in parentheses. */
#define DRIVER_WHY_SIZE 512
void driver_wait_down(struct driver *driver, const struct link *link, char out_why[DRIVER_WHY_SIZE]);

#endif
