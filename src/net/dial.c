/* dial.c - from a node to a link that is up.
 *
 * The addresses of a node become candidates: numeric ones at once, names when they are resolved (by libuv's threads). Candidates
 * start in that order, HEAD_START_MS apart, or as soon as one before failed; the first whose TLS and HELLO prove that it is the
 * node wins, and the others are dropped. A link that the node itself made in the meantime wins as well.
 *
 * Ownership: a dial lives until its timer is closed and its names and links are off its hands; whoever waits is told before.
 */
#include "net/link.h"

#include "base/err.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_START_MS 50
#define CANDIDATES_MAX 8 /* addresses tried for one node */
#define PER_NAME_MAX 3   /* of them from one name */
#define WHY_SIZE 96

struct waiter {
    struct waiter *next;
    void (*on_done)(void *user, struct link *link, const struct corolla_error *err);
    void *user;
};

struct candidate {
    struct dial *dial;
    struct sockaddr_storage address;
    char text[ADDR_MAX];
    struct link *link;  /* while it tries */
    char why[WHY_SIZE]; /* it failed */
};

struct name {
    struct dial *dial;
    uv_getaddrinfo_t request;
    char text[ADDR_MAX];
    uint16_t port;
    bool resolving;
};

struct dial {
    struct net *net;
    struct dial *prev, *next; /* among those that are not done */
    struct node_id id;
    struct waiter *first, *last;
    struct candidate candidates[CANDIDATES_MAX];
    uint32_t n_candidates, n_started;
    struct name names[ADDRS_MAX];
    uint32_t n_names;
    char bad[WHY_SIZE];         /* addresses that could not be tried */
    enum corolla_status status; /* the most telling of the failures */
    uv_timer_t timer, deadline;
    uint32_t handles; /* not closed yet */
    uint32_t pending; /* names and links under way */
    bool done;
};

static void advance(struct dial *dial);

/* ---- ending ---------------------------------------------------------------------------------------------------- */

static void maybe_free(struct dial *dial) {
    if (dial->done && dial->handles == 0 && dial->pending == 0) free(dial);
}

static void on_timer_closed(uv_handle_t *handle) {
    struct dial *dial = handle->data;
    dial->handles--;
    maybe_free(dial);
}

/* Tells everybody, once. What is still under way is dropped and comes back to us in its own callback. */
static void finish(struct dial *dial, struct link *link, const struct corolla_error *err) {
    struct net *net = dial->net;
    struct corolla_error closed = {0};
    if (dial->done) return;
    dial->done = true;
    err_set(&closed, COROLLA_PEER_LOST, "the link was closed as soon as it was up");
    *(dial->prev ? &dial->prev->next : &net->dials) = dial->next;
    if (dial->next) dial->next->prev = dial->prev;
    for (uint32_t i = 0; i < dial->n_candidates; i++) {
        if (dial->candidates[i].link && dial->candidates[i].link != link)
            link_fail(dial->candidates[i].link, COROLLA_CANCELLED, "another address answered first");
    }
    for (uint32_t i = 0; i < dial->n_names; i++) {
        if (dial->names[i].resolving) uv_cancel((uv_req_t *)&dial->names[i].request);
    }
    uv_close((uv_handle_t *)&dial->timer, on_timer_closed);
    uv_close((uv_handle_t *)&dial->deadline, on_timer_closed);
    struct waiter *waiter = dial->first; /* the dial itself is freed by a callback at the earliest */
    dial->first = dial->last = NULL;
    while (waiter) {
        struct waiter *next = waiter->next;
        bool up = link && link->state == LINK_UP; /* one that was told before may have closed it */
        waiter->on_done(waiter->user, up ? link : NULL, up ? NULL : link ? &closed : err);
        free(waiter);
        waiter = next;
    }
}

/* One line for the reader: every address and what became of it. */
static void fail(struct dial *dial, enum corolla_status status, const char *what) {
    struct corolla_error err = {0};
    char node[NODE_ID_TEXT], tried[sizeof(err.message)] = "";
    size_t used = 0;
    node_id_format(&dial->id, node);
    for (uint32_t i = 0; i < dial->n_candidates && used < sizeof(tried); i++) {
        const struct candidate *c = &dial->candidates[i];
        const char *why = c->why[0] ? c->why : i < dial->n_started ? "no answer yet" : "not tried";
        int n = snprintf(tried + used, sizeof(tried) - used, "%s%s: %s", used > 0 ? "; " : "", c->text, why);
        used += n > 0 ? (size_t)n : 0;
    }
    err_set(&err, status, "cannot reach node %.16s, %s: %s%s%s", node, what, tried, dial->bad[0] && used > 0 ? "; " : "", dial->bad);
    finish(dial, NULL, &err);
}

static void on_deadline(uv_timer_t *timer) {
    struct dial *dial = timer->data;
    char what[48];
    snprintf(what, sizeof(what), "no answer within %u ms", dial->net->config.dial_ms);
    fail(dial, COROLLA_TIMEOUT, what);
}

/* ---- trying ---------------------------------------------------------------------------------------------------- */

/* A node that answered and said no tells more than an address where nobody is. */
static void note_failure(struct dial *dial, enum corolla_status status) {
    bool telling = status != COROLLA_PEER_LOST && status != COROLLA_TIMEOUT && status != COROLLA_CANCELLED;
    if (dial->status == COROLLA_OK || telling) dial->status = status;
}

static void on_open(void *user, struct link *link, const struct corolla_error *err) {
    struct candidate *c = user;
    struct dial *dial = c->dial;
    dial->pending--;
    if (dial->done) {
        c->link = NULL;
        maybe_free(dial);
        return;
    }
    if (link) {
        finish(dial, link, NULL);
        return;
    }
    c->link = NULL;
    snprintf(c->why, sizeof(c->why), "%.*s", WHY_SIZE - 1, err->message);
    note_failure(dial, err->status);
    advance(dial);
}

static void start(struct candidate *c) {
    struct dial *dial = c->dial;
    c->link = link_new(dial->net, true);
    if (!c->link) {
        snprintf(c->why, sizeof(c->why), "out of memory");
        note_failure(dial, COROLLA_NOMEM);
        return;
    }
    dial->pending++;
    c->link->on_open = on_open;
    c->link->open_user = c;
    link_connect(c->link, (struct sockaddr *)&c->address, &dial->id); /* a failure is told through on_open */
}

static void on_head_start(uv_timer_t *timer) { advance(timer->data); }

/* Starts the next candidate; when there is none and nothing is under way, the dial has failed. */
static void advance(struct dial *dial) {
    if (dial->done) return;
    while (dial->n_started < dial->n_candidates) {
        struct candidate *c = &dial->candidates[dial->n_started++];
        start(c);
        if (c->link) break;
    }
    if (dial->pending == 0)
        fail(dial, dial->status == COROLLA_OK ? COROLLA_PEER_LOST : dial->status, "tried");
    else if (dial->n_started < dial->n_candidates)
        uv_timer_start(&dial->timer, on_head_start, HEAD_START_MS, 0);
}

/* ---- candidates ------------------------------------------------------------------------------------------------ */

static void add_candidate(struct dial *dial, const struct sockaddr *address, size_t size) {
    if (dial->n_candidates == CANDIDATES_MAX) return;
    struct candidate *c = &dial->candidates[dial->n_candidates++];
    c->dial = dial;
    memcpy(&c->address, address, size);
    address_format(address, c->text);
}

static void note_bad(struct dial *dial, const char *text, const char *why) {
    size_t used = strlen(dial->bad);
    snprintf(dial->bad + used, sizeof(dial->bad) - used, "%s%s: %s", used > 0 ? "; " : "", text, why);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list) {
    struct name *name = request->data;
    struct dial *dial = name->dial;
    name->resolving = false;
    dial->pending--;
    if (dial->done) {
        uv_freeaddrinfo(list);
        maybe_free(dial);
        return;
    }
    uint32_t n = 0;
    for (struct addrinfo *a = list; status == 0 && a && n < PER_NAME_MAX; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
        address_set_port(a->ai_addr, name->port);
        add_candidate(dial, a->ai_addr, a->ai_addrlen);
        n++;
    }
    uv_freeaddrinfo(list);
    if (n == 0) {
        note_bad(dial, name->text, status != 0 ? uv_strerror(status) : "no address");
        note_failure(dial, COROLLA_NOT_FOUND);
    }
    advance(dial);
}

static void add_address(struct dial *dial, const char *text) {
    char host[ADDR_MAX];
    uint16_t port = 0;
    struct sockaddr_storage address;
    struct corolla_error err = {0};
    if (address_split(text, host, &port, &err) != COROLLA_OK || port == 0) {
        note_bad(dial, "an address", "not HOST:PORT");
        return;
    }
    if (address_numeric(host, port, &address)) {
        add_candidate(dial, (struct sockaddr *)&address, sizeof(address));
        return;
    }
    struct name *name = &dial->names[dial->n_names++];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    name->dial = dial;
    name->port = port;
    snprintf(name->text, sizeof(name->text), "%s", text);
    name->request.data = name;
    int result = uv_getaddrinfo(&dial->net->loop, &name->request, on_resolved, host, NULL, &hints);
    if (result != 0) {
        note_bad(dial, text, uv_strerror(result));
        return;
    }
    name->resolving = true;
    dial->pending++;
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static struct dial *dial_find(struct net *net, const struct node_id *id) {
    for (struct dial *dial = net->dials; dial; dial = dial->next) {
        if (node_id_equal(&dial->id, id)) return dial;
    }
    return NULL;
}

static struct dial *dial_new(struct net *net, const struct node_ref *node) {
    struct dial *dial = calloc(1, sizeof(*dial));
    if (!dial) return NULL;
    dial->net = net;
    dial->id = node->id;
    uv_timer_init(&net->loop, &dial->timer);
    uv_timer_init(&net->loop, &dial->deadline);
    dial->timer.data = dial->deadline.data = dial;
    dial->handles = 2;
    dial->next = net->dials;
    if (dial->next) dial->next->prev = dial;
    net->dials = dial;
    uv_timer_start(&dial->deadline, on_deadline, net->config.dial_ms, 0);
    for (uint32_t i = 0; i < node->n_addrs && i < ADDRS_MAX; i++) add_address(dial, node->addrs[i]);
    uv_timer_start(&dial->timer, on_head_start, 0, 0); /* from the loop, so that no outcome comes from inside net_dial */
    return dial;
}

void net_dial(struct net *net, const struct node_ref *node, void (*on_done)(void *user, struct link *link, const struct corolla_error *err),
              void *user) {
    assert(net_on_loop(net));
    struct corolla_error err = {0};
    struct link *link = net_find(net, &node->id);
    if (link) {
        on_done(user, link, NULL);
        return;
    }
    if (net->stopping)
        err_set(&err, COROLLA_CANCELLED, "this node is leaving");
    else if (node_id_equal(&node->id, &net->self.id))
        err_set(&err, COROLLA_REFUSED, "a node does not link to itself; if another process of this home was meant, it has ended");
    else if (node->n_addrs == 0)
        err_set(&err, COROLLA_NOT_FOUND, "no address of the node is known");
    if (err.status != COROLLA_OK) {
        on_done(user, NULL, &err);
        return;
    }
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    struct dial *dial = waiter ? dial_find(net, &node->id) : NULL;
    if (waiter && !dial) dial = dial_new(net, node);
    if (!dial) {
        free(waiter);
        err_set(&err, COROLLA_NOMEM, "no memory to dial");
        on_done(user, NULL, &err);
        return;
    }
    waiter->on_done = on_done;
    waiter->user = user;
    *(dial->last ? &dial->last->next : &dial->first) = waiter;
    dial->last = waiter;
}

void dial_link_up(struct net *net, struct link *link) {
    struct dial *dial = dial_find(net, &link->peer.id);
    if (dial) finish(dial, link, NULL);
}

void dial_stop_all(struct net *net) {
    struct corolla_error err = {0};
    err_set(&err, COROLLA_CANCELLED, "this node is leaving");
    while (net->dials) finish(net->dials, NULL, &err);
}
