/* test_node_host.c - what a server takes of the memory that it may use; and a compute thread that gets none for the rows to keep. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "node/host.h"
#include "node/memory.h"
#include "node/node.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define RESERVE (64ull << 20) /* memory.c */
#define PADS 10

/* Sanitizers end the program when there is no memory, unless they are told not to. */
COROLLA_API const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
COROLLA_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "allocator_may_return_null=1"; }

static struct engine *engine;
static struct model_file *file;

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status != COROLLA_OK) fail_msg("%s: %s", corolla_status_name(status), err->message);
}

static int open_all(void **state) {
    (void)state;
    struct tiny_config tiny;
    struct corolla_error err = {0};
    const char *path = scratch_file("tiny.gguf");
    tiny_config_default(&tiny, "llama");
    assert_true(tiny_write(&tiny, path));
    must(model_file_open(&file, path, NULL, NULL, &err), &err);
    must(engine_new(&engine, &(struct engine_config){.threads = 1}, &err), &err);
    return 0;
}

static int close_all(void **state) {
    (void)state;
    engine_free(engine);
    model_file_close(file);
    scratch_remove();
    return 0;
}

static void kv_and_the_rows_that_may_be_kept_share_the_memory(void **state) {
    (void)state;
    const struct hparams *hp = model_file_hparams(file);
    struct corolla_error err = {0};
    struct host *host;
    uint64_t pad = span_kv_bytes(hp, 2, COROLLA_KV_F16, KV_PAD) + KV_PAD * hp->n_embd * sizeof(float);
    struct host_config config = {.engine = engine, .file = file, .begin = 0, .end = 2};
    config.memory_max = memory_of_weights(file, 0, 2) + RESERVE + PADS * pad;
    must(host_load(&host, &config, &err), &err);
    assert_int_equal(span_kv_tokens_left(host->span), PADS * KV_PAD);
    assert_int_equal(host->rows_bytes_left, PADS * KV_PAD * hp->n_embd * sizeof(float));
    host_free(host);
    config.memory_max--;
    must(host_load(&host, &config, &err), &err);
    assert_int_equal(span_kv_tokens_left(host->span), (PADS - 1) * KV_PAD);
    host_free(host);
}

/* ---- rows that cannot be kept ---------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t rung = PTHREAD_COND_INITIALIZER;
static bool done;

static void notify(void *user) {
    (void)user;
    pthread_mutex_lock(&lock);
    done = true;
    pthread_cond_signal(&rung);
    pthread_mutex_unlock(&lock);
}

/* Computes a step of rows [position, position + n) and gives back what became of it. */
static struct corolla_error compute(struct host *host, struct net *net, struct lane *lane, uint32_t position, uint32_t n) {
    static struct msg_step m;
    struct body *body = net_body_new(net, n * model_file_hparams(file)->n_embd * sizeof(float));
    memset(body->data, 0, body->size);
    m = (struct msg_step){.position = position, .n_tokens = n, .n_rows = n};
    done = false;
    compute_submit(host->compute, lane, step_new(net, &m, body));
    pthread_mutex_lock(&lock);
    while (!done) pthread_cond_wait(&rung, &lock);
    pthread_mutex_unlock(&lock);
    struct step *step = compute_collect(host->compute);
    assert_non_null(step);
    assert_null(step->next);
    struct corolla_error error = step->error;
    step_free(net, step);
    return error;
}

static void rows_that_cannot_be_kept_fail_their_step_only(void **state) {
    (void)state;
    struct corolla_error err = {0};
    struct host *host;
    struct identity *identity;
    struct net *net;
    struct net_config net_config;
    must(identity_open(&identity, scratch_file("home"), &err), &err);
    net_config_default(&net_config);
    net_config.identity = identity;
    net_config.events = node_events(NULL); /* it never runs */
    must(net_open(&net, &net_config, &err), &err);
    must(host_load(&host, &(struct host_config){.engine = engine, .file = file, .begin = 0, .end = 2, .cache_tokens = 512}, &err), &err);
    must(host_start(host, net, notify, NULL, &err), &err);
    struct lane poor = {.begin = 0, .end = 2}, rich = poor;
    must(kv_open(&poor.kv, host->span, 0, 2, 128, &err), &err);
    must(kv_open(&rich.kv, host->span, 0, 2, 128, &err), &err);
    poor.kept = row_log_new(128, SIZE_MAX / 128); /* no page of such rows can be had */
    rich.kept = row_log_new(128, model_file_hparams(file)->n_embd * sizeof(float));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(compute(host, net, &poor, 0, 4).status, COROLLA_NOMEM);
        assert_int_equal(poor.length, 0);
        assert_int_equal(compute(host, net, &rich, (uint32_t)i * 70, 70 - (uint32_t)i * 20).status, COROLLA_OK);
    }
    assert_int_equal(rich.length, 120);
    assert_int_equal(row_log_length(rich.kept), 120);
    host_stop(host);
    row_log_free(poor.kept);
    row_log_free(rich.kept);
    kv_close(poor.kv);
    kv_close(rich.kv);
    host_free(host);
    net_close(net);
    identity_close(identity);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_and_the_rows_that_may_be_kept_share_the_memory),
        cmocka_unit_test(rows_that_cannot_be_kept_fail_their_step_only),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
