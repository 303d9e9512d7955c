/* dial.c - from a node, or from an address alone, to links that are up.
 *
 * The addresses of a node become candidates: numeric ones at once, names when they are resolved (by libuv's threads). Candidates
 * start in that order, HEAD_START_MS apart, or as soon as one before failed; the first whose TLS and HELLO prove that it is the
 * node wins, and the others are dropped. A link that the node itself made in the meantime wins as well.
 *
 * Behind an address without a node (net_dial_address) anybody may answer, and each candidate may be a node of its own: up to
 * DIAL_LINKS_MAX of them are kept. They are tried in random order, so that not all who join by one name land on its first address.
 *
 * Ownership: a dial lives until its timer is closed and its names and links are off its hands; whoever waits is told before.
 */
#include "net/link.h"

#include "base/err.h"
#include "crypto/rand.h"
#include "net/lan.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_START_MS 50
#define CANDIDATES_MAX 8      /* addresses tried in one dial */
#define PER_NAME_MAX 3        /* of them from one name of a node */
#define NAME_ADDRESSES_MAX 64 /* of a name without a node, among which the candidates are chosen */
#define WHY_SIZE 256          /* a refusal's reason, and that it was one */

struct waiter {
    struct waiter *next;
    net_dialled_fn on_done;
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
    bool proof;               /* a link that the node made itself does not count: net_prove */
    bool anybody;             /* no node was named, but an address: asked ... */
    char asked[ADDR_MAX];
    uint32_t n_kept; /* ... and these answered so far */
    struct node_id kept[DIAL_LINKS_MAX];
    struct node_id id; /* else the node that was named */
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
    bool heard;       /* on the LAN, and its addresses there are candidates */
    bool done;
};

static void advance(struct dial *dial);
static void add_heard(struct dial *dial);
static bool may_be_heard(const struct dial *dial);

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
    if (dial->n_kept > 0) { /* the others may fail */
        finish(dial, NULL, NULL);
        return;
    }
    node_id_format(&dial->id, node);
    for (uint32_t i = 0; i < dial->n_candidates && used < sizeof(tried); i++) {
        const struct candidate *c = &dial->candidates[i];
        const char *why = c->why[0] ? c->why : i < dial->n_started ? "no answer yet" : "not tried";
        int n = snprintf(tried + used, sizeof(tried) - used, "%s%s: %s", used > 0 ? "; " : "", c->text, why);
        used += n > 0 ? (size_t)n : 0;
    }
    err_set(&err, status, "cannot reach %s%.*s, %s: %s%s%s", dial->anybody ? "" : "node ", dial->anybody ? ADDR_MAX : 16,
            dial->anybody ? dial->asked : node, what, tried, dial->bad[0] && used > 0 ? "; " : "", dial->bad);
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

/* Somebody answered: kept, unless it is a node that answered before or was linked already. */
static void keep(struct dial *dial, struct link *link) {
    const struct node_id *id = &link->peer.id;
    bool known = false;
    for (uint32_t i = 0; i < dial->n_kept; i++) known = known || node_id_equal(&dial->kept[i], id);
    struct link *older = net_find(dial->net, id);
    if (older != link) link_close(link, COROLLA_CANCELLED, "there is a link already");
    if (!known) {
        dial->kept[dial->n_kept++] = *id;
        dial->first->on_done(dial->first->user, older, NULL);
    }
    if (dial->n_kept == DIAL_LINKS_MAX) finish(dial, NULL, NULL);
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
    if (link && !dial->anybody) {
        finish(dial, link, NULL);
        return;
    }
    c->link = NULL;
    if (link) {
        keep(dial, link);
        advance(dial);
        return;
    }
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
    link_connect(c->link, (struct sockaddr *)&c->address, dial->anybody ? NULL : &dial->id); /* a failure is told through on_open */
}

static void on_head_start(uv_timer_t *timer) { advance(timer->data); }

/* Starts the next candidate; when there is none, nothing is under way and the LAN has told what it knows, the dial has failed. */
static void advance(struct dial *dial) {
    if (dial->done) return;
    add_heard(dial);
    while (dial->n_started < dial->n_candidates) {
        struct candidate *c = &dial->candidates[dial->n_started++];
        start(c);
        if (c->link) break;
    }
    if (dial->pending == 0 && !may_be_heard(dial))
        fail(dial, dial->status == COROLLA_OK ? COROLLA_PEER_LOST : dial->status, "tried");
    else if (dial->pending == 0 || dial->n_started < dial->n_candidates)
        uv_timer_start(&dial->timer, on_head_start, HEAD_START_MS, 0);
}

/* ---- candidates ------------------------------------------------------------------------------------------------ */

static void candidate_set(struct candidate *c, struct dial *dial, const struct sockaddr *address) {
    size_t size = address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    memset(c, 0, sizeof(*c));
    c->dial = dial;
    memcpy(&c->address, address, size);
    address_format(address, c->text);
}

static void add_candidate(struct dial *dial, const struct sockaddr *address) {
    if (dial->n_candidates == CANDIDATES_MAX) return;
    struct candidate *c = &dial->candidates[dial->n_candidates];
    candidate_set(c, dial, address);
    for (uint32_t i = 0; i < dial->n_candidates; i++) {
        if (memcmp(&dial->candidates[i].address, &c->address, sizeof(c->address)) == 0) return;
    }
    dial->n_candidates++;
}

/* The nth address of a name, from 0: when all were shuffled in, the candidates are a random choice of them in random order. */
static void shuffle_candidate(struct dial *dial, const struct sockaddr *address, uint32_t nth) {
    uint32_t random = 0;
    rand_bytes(&random, sizeof(random));
    uint32_t at = random % (nth + 1);
    if (nth < CANDIDATES_MAX) {
        dial->candidates[nth] = dial->candidates[at];
        dial->n_candidates = nth + 1;
    }
    if (at < CANDIDATES_MAX) candidate_set(&dial->candidates[at], dial, address);
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
    uint32_t n = 0, n_max = dial->anybody ? NAME_ADDRESSES_MAX : PER_NAME_MAX;
    for (struct addrinfo *a = list; status == 0 && a && n < n_max; a = a->ai_next) {
        if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
        address_set_port(a->ai_addr, name->port);
        if (dial->anybody)
            shuffle_candidate(dial, a->ai_addr, n);
        else
            add_candidate(dial, a->ai_addr);
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
        add_candidate(dial, (struct sockaddr *)&address);
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

/* What was heard of the node on the LAN is tried as well as what we were told. */
static void add_heard(struct dial *dial) {
    const struct lan *lan = dial->net->lan;
    const struct node_ref *heard = lan && !dial->anybody && !dial->heard ? lan_heard(lan, &dial->id) : NULL;
    for (uint32_t i = 0; heard && i < heard->n_addrs; i++) add_address(dial, heard->addrs[i]); /* numeric, all of them */
    dial->heard |= heard != NULL;
}

static bool may_be_heard(const struct dial *dial) {
    return dial->net->lan && !dial->anybody && !dial->heard && !lan_settled(dial->net->lan);
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static struct dial *dial_find(struct net *net, const struct node_id *id) {
    for (struct dial *dial = net->dials; dial; dial = dial->next) {
        if (!dial->anybody && node_id_equal(&dial->id, id)) return dial;
    }
    return NULL;
}

/* A link to the node that is up; dialled: one that this side made. */
static struct link *find_link(struct net *net, const struct node_id *id, bool dialled) {
    for (struct link *link = net->first; link; link = link->next) {
        if (link->state == LINK_UP && (link->dialled || !dialled) && node_id_equal(&link->peer.id, id)) return link;
    }
    return NULL;
}

static struct dial *dial_new(struct net *net) {
    struct dial *dial = calloc(1, sizeof(*dial));
    if (!dial) return NULL;
    dial->net = net;
    uv_timer_init(&net->loop, &dial->timer);
    uv_timer_init(&net->loop, &dial->deadline);
    dial->timer.data = dial->deadline.data = dial;
    dial->handles = 2;
    dial->next = net->dials;
    if (dial->next) dial->next->prev = dial;
    net->dials = dial;
    uv_timer_start(&dial->deadline, on_deadline, net->config.dial_ms, 0);
    uv_timer_start(&dial->timer, on_head_start, 0, 0); /* from the loop, so that no outcome comes from inside net_dial */
    return dial;
}

static struct dial *dial_node(struct net *net, const struct node_ref *node) {
    struct dial *dial = dial_new(net);
    if (!dial) return NULL;
    dial->id = node->id;
    for (uint32_t i = 0; i < node->n_addrs && i < ADDRS_MAX; i++) add_address(dial, node->addrs[i]);
    return dial;
}

static bool has_candidate(const struct dial *dial, const char *text) {
    bool found = false;
    for (uint32_t i = 0; i < dial->n_candidates && !found; i++) found = strcmp(dial->candidates[i].text, text) == 0;
    for (uint32_t i = 0; i < dial->n_names && !found; i++) found = strcmp(dial->names[i].text, text) == 0;
    return found;
}

/* Somebody else knows more addresses of a node that is being dialled. */
static void dial_also(struct dial *dial, const struct node_ref *node) {
    for (uint32_t i = 0; i < node->n_addrs && i < ADDRS_MAX && dial->n_names < ADDRS_MAX; i++)
        if (!has_candidate(dial, node->addrs[i])) add_address(dial, node->addrs[i]);
    uv_timer_start(&dial->timer, on_head_start, 0, 0);
}

static struct dial *dial_anybody(struct net *net, const char *address) {
    struct dial *dial = dial_new(net);
    if (!dial) return NULL;
    dial->anybody = true;
    snprintf(dial->asked, sizeof(dial->asked), "%s", address);
    add_address(dial, address);
    return dial;
}

static void dial_wait(struct dial *dial, struct waiter *waiter, net_dialled_fn on_done, void *user) {
    waiter->on_done = on_done;
    waiter->user = user;
    *(dial->last ? &dial->last->next : &dial->first) = waiter;
    dial->last = waiter;
}

static void dial_or_prove(struct net *net, const struct node_ref *node, bool proof, net_dialled_fn on_done, void *user) {
    assert(net_on_loop(net));
    struct corolla_error err = {0};
    struct link *link = find_link(net, &node->id, proof);
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
    struct waiter *waiter = err.status == COROLLA_OK ? calloc(1, sizeof(*waiter)) : NULL;
    struct dial *dial = waiter ? dial_find(net, &node->id) : NULL;
    if (waiter && !dial)
        dial = dial_node(net, node);
    else if (dial)
        dial_also(dial, node);
    if (dial) {
        dial->proof |= proof;
        dial_wait(dial, waiter, on_done, user);
        return;
    }
    free(waiter);
    if (err.status == COROLLA_OK) err_set(&err, COROLLA_NOMEM, "no memory to dial");
    on_done(user, NULL, &err);
}

void net_dial(struct net *net, const struct node_ref *node, net_dialled_fn on_done, void *user) {
    dial_or_prove(net, node, false, on_done, user);
}

void net_prove(struct net *net, const struct node_ref *node, net_dialled_fn on_done, void *user) {
    dial_or_prove(net, node, true, on_done, user);
}

void net_dial_address(struct net *net, const char *address, net_dialled_fn on_link, void *user) {
    assert(net_on_loop(net));
    struct corolla_error err = {0};
    char host[ADDR_MAX];
    uint16_t port = 0;
    if (net->stopping)
        err_set(&err, COROLLA_CANCELLED, "this node is leaving");
    else if (address_split(address, host, &port, &err) == COROLLA_OK && port == 0)
        err_set(&err, COROLLA_INVALID, "address \"%s\": nobody is reached at port 0", address);
    struct waiter *waiter = err.status == COROLLA_OK ? calloc(1, sizeof(*waiter)) : NULL;
    struct dial *dial = waiter ? dial_anybody(net, address) : NULL;
    if (dial) {
        dial_wait(dial, waiter, on_link, user);
        return;
    }
    free(waiter);
    if (err.status == COROLLA_OK) err_set(&err, COROLLA_NOMEM, "no memory to dial");
    on_link(user, NULL, &err);
}

struct link *net_find(struct net *net, const struct node_id *id) {
    assert(net_on_loop(net));
    return find_link(net, id, false);
}

void dial_link_up(struct net *net, struct link *link) {
    struct dial *dial = dial_find(net, &link->peer.id);
    if (dial && (link->dialled || !dial->proof)) finish(dial, link, NULL);
}

void dial_stop_all(struct net *net) {
    struct corolla_error err = {0};
    err_set(&err, COROLLA_CANCELLED, "this node is leaving");
    while (net->dials) finish(net->dials, NULL, &err);
}
