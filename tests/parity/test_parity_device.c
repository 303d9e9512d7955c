/* test_parity_device.c - a device whose memory the host cannot address: the engine's RPC server in a process of its own on loopback.
 *
 * It has the same kernels but for quantised weights, so the same bits must come back; a pointer into device memory that the host followed,
 * or an input that did not go through tensor_set, would show. When the device dies the process would too (the engine aborts), so the server
 * outlives everything here.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <ggml-backend.h>
#include <ggml-rpc.h>

#include "model/part.h"
#include "support/chain.h"
#include "support/scratch.h"
#include "support/tiny.h"

#define TOKENS 90

static pid_t server;
static char device[32];

static uint16_t free_port(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    close(fd);
    return ntohs(at.sin_port);
}

static bool answers(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool good = connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
    close(fd);
    return good;
}

static int start_server(void **state) {
    (void)state;
    uint16_t port = free_port();
    snprintf(device, sizeof device, "rpc:127.0.0.1:%u", port);
    server = fork();
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stdout)) _exit(1);
        setenv("GGML_CPU_TILED_MM", "0", 1); /* what an exact engine sets in its own process */
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        ggml_backend_rpc_start_server(device + strlen("rpc:"), NULL, 1, 1, &cpu);
        _exit(1);
    }
    while (!answers(port)) {
        if (waitpid(server, NULL, WNOHANG) != 0) return -1;
        usleep(10000);
    }
    return 0;
}

static int stop_server(void **state) {
    (void)state;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    scratch_remove();
    return 0;
}

static void run_on(const char *path, const char *where, float *hidden, float *logits) {
    int32_t tokens[TOKENS];
    struct chain chain;
    struct lane lane, stranger;
    chain_open(&chain, &(struct chain_config){.path = path, .threads = 1, .device = where});
    assert_true(chain_exact(&chain));
    random_tokens(7, chain.n_vocab, tokens, TOKENS);
    lane_open(&lane, &chain, 128);
    lane_open(&stranger, &chain, 128);
    lane_run(&stranger, 0, tokens, 40, 40, hidden);
    lane_run(&lane, 0, tokens, TOKENS, 32, hidden);
    size_t n_after = (TOKENS - 50) * (size_t)chain.n_embd;
    float *after = hidden + 50 * (size_t)chain.n_embd, *again = malloc(n_after * sizeof *again);
    lane_run(&lane, 50, tokens + 50, TOKENS - 50, 1, again); /* rolled back, then one by one */
    assert_memory_equal(after, again, n_after * sizeof *again);
    free(again);
    chain_logits(&chain, hidden, TOKENS, logits);
    lane_close(&lane);
    lane_close(&stranger);
    chain_close(&chain);
}

/* Those of the processor, where it has no kernels of its own; else the same as itself, whatever the chunks (run_on), and near. */
static void a_device_with_memory_of_its_own_gives_the_same_bits(void **state) {
    (void)state;
    static const char *const types[] = {"f32", "f16", "q8_0", "q4_1"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct tiny_config config;
        tiny_config_default(&config, "llama");
        config.type = types[i];
        const char *path = scratch_file("device.gguf");
        assert_true(tiny_write(&config, path));
        size_t n_hidden = (size_t)TOKENS * config.n_embd, n_logits = (size_t)TOKENS * 4096;
        float *hidden = calloc(2 * n_hidden, sizeof *hidden), *logits = calloc(2 * n_logits, sizeof *logits);
        run_on(path, NULL, hidden, logits);
        run_on(path, device, hidden + n_hidden, logits + n_logits);
        print_message("weights %s\n", types[i]);
        if (i < 2) {
            assert_memory_equal(hidden, hidden + n_hidden, n_hidden * sizeof *hidden);
            assert_memory_equal(logits, logits + n_logits, n_logits * sizeof *logits);
        }
        assert_true(nmse(logits, logits + n_logits, n_logits) < 3e-3);
        free(hidden);
        free(logits);
    }
}

/* Sessions of the public API, all blocks on this device (NULL: the processor): three that step together, fork, roll back and continue each
 * other. rows: of all steps. */
static uint32_t run_sessions(struct corolla_model *model, const char *where, float *rows) {
    uint32_t n_embd = corolla_model_info(model)->n_embd, n_rows = 0;
    int32_t tokens[TOKENS];
    struct corolla_session *sessions[3];
    struct corolla_swarm *swarm;
    struct corolla_swarm_config config;
    corolla_swarm_config_default(&config);
    config.local = true;
    config.threads = 1;
    config.device = where;
    random_tokens(9, corolla_model_info(model)->n_vocab, tokens, TOKENS);
    assert_int_equal(corolla_swarm_open(&swarm, model, &config, NULL), COROLLA_OK);
    assert_int_equal(corolla_session_open(&sessions[0], swarm, 128, NULL), COROLLA_OK);
    assert_int_equal(corolla_session_step(sessions[0], 0, tokens, 40, NULL, 0, NULL), COROLLA_OK);
    for (uint32_t i = 1; i < 3; i++) assert_int_equal(corolla_session_fork(&sessions[i], sessions[0], NULL), COROLLA_OK);
    for (uint32_t round = 0; round < 8; round++) {
        struct corolla_step steps[3];
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t parent = (round + i * i) % 3, filled = corolla_session_position(sessions[parent]);
            steps[i] =
                (struct corolla_step){.parent = parent, .position = filled - (round + i) % 3, .tokens = tokens + 7 * i + round, .n = 1 + i};
            steps[i].out_hidden = rows + (size_t)n_rows++ * n_embd;
            steps[i].n_rows = 1;
        }
        assert_int_equal(corolla_sessions_step(sessions, steps, 3, NULL), COROLLA_OK);
    }
    for (uint32_t i = 0; i < 3; i++) corolla_session_close(sessions[i]);
    corolla_swarm_close(swarm);
    return n_rows * n_embd;
}

static void sessions_on_it_fork_roll_back_and_continue_each_other(void **state) {
    (void)state;
    struct tiny_config config;
    struct corolla_model *model;
    tiny_config_default(&config, "qwen2");
    const char *path = scratch_file("sessions.gguf");
    assert_true(tiny_write(&config, path));
    assert_int_equal(corolla_model_open(&model, path, NULL, NULL, NULL), COROLLA_OK);
    float *rows = calloc(2 * 24 * (size_t)config.n_embd, sizeof *rows), *more = rows + 24 * (size_t)config.n_embd;
    uint32_t n = run_sessions(model, NULL, rows);
    assert_int_equal(run_sessions(model, device, more), n);
    assert_memory_equal(rows, more, n * sizeof *rows);
    free(rows);
    corolla_model_close(model);
}

/* Rows that are not computed in place. */
static void forward_apart(struct chain *chain, float *out) {
    float in[20 * 256];
    struct kv *kv;
    struct span *span = chain->spans[0];
    for (size_t i = 0; i < sizeof in / sizeof in[0]; i++) in[i] = (float)(i * 37 % 101) / 50 - 1;
    assert_int_equal(chain->n_embd, 256);
    assert_int_equal(kv_open(&kv, span, span_begin(span), span_end(span), 32, NULL), COROLLA_OK);
    assert_int_equal(span_forward(span, &(struct batch_item){.kv = kv, .n = 20, .in = in, .out = out}, 1, NULL), COROLLA_OK);
    kv_close(kv);
}

/* A block of this model is 2.25 MiB, its KV a quarter more. */
static void blocks_lie_on_several_devices_and_what_has_no_room_on_the_processor(void **state) {
    (void)state;
    const struct {
        const char *format;
        uint32_t n_parts, ends[3];
    } lists[] = {{"%s=3,%s=6", 3, {1, 3, 5}}, {"%s=6", 2, {2, 5}}, {"%s=1", 1, {5}}, {"%s=16,%s=24", 2, {2, 5}}, {"CPU=8,%s=8", 2, {3, 5}}};
    struct tiny_config config;
    tiny_config_default(&config, "qwen2");
    const char *path = scratch_file("several.gguf");
    assert_true(tiny_write(&config, path));
    struct corolla_model *model;
    assert_int_equal(corolla_model_open(&model, path, NULL, NULL, NULL), COROLLA_OK);
    float *rows = calloc(2 * 24 * (size_t)config.n_embd, sizeof *rows), *more = rows + 24 * (size_t)config.n_embd;
    uint32_t n = run_sessions(model, NULL, rows);
    float apart[2][20 * 256];
    struct chain chain;
    chain_open(&chain, &(struct chain_config){.path = path, .threads = 1});
    forward_apart(&chain, apart[0]);
    chain_close(&chain);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        char list[128];
        snprintf(list, sizeof list, lists[i].format, device, device);
        assert_int_equal(run_sessions(model, list, more), n);
        assert_memory_equal(rows, more, n * sizeof *rows);
        chain_open(&chain, &(struct chain_config){.path = path, .threads = 1, .device = list, .kv_tokens = config.n_ctx});
        struct part *const *parts;
        assert_int_equal(span_parts(chain.spans[0], &parts), lists[i].n_parts);
        for (uint32_t p = 0; p < lists[i].n_parts; p++) assert_int_equal(part_end(parts[p]), lists[i].ends[p]);
        assert_true(chain_exact(&chain));
        forward_apart(&chain, apart[1]);
        assert_memory_equal(apart[0], apart[1], sizeof apart[0]);
        chain_close(&chain);
    }
    free(rows);
    corolla_model_close(model);
}

struct bytes { /* in the place of a file */
    uint8_t *at;
    size_t n, taken;
};

static bool put(void *user, void *data, size_t size) {
    struct bytes *b = user;
    b->at = realloc(b->at, b->n + size);
    memcpy(b->at + b->n, data, size);
    b->n += size;
    return b->at != NULL;
}

static bool get(void *user, void *data, size_t size) {
    struct bytes *b = user;
    if (size > b->n - b->taken) return false;
    memcpy(data, b->at + b->taken, size);
    b->taken += size;
    return true;
}

#define BEFORE 70
#define AFTER 6

static struct kv *open_kv(struct span *span) {
    struct kv *kv;
    assert_int_equal(kv_open(&kv, span, span_begin(span), span_end(span), BEFORE + AFTER, NULL), COROLLA_OK);
    return kv;
}

/* A session goes on in a copy of its cache and in one that was saved and read back, both in one batch. */
static void check_moved(const char *path, const char *where) {
    struct chain chain;
    chain_open(&chain, &(struct chain_config){.path = path, .threads = 1, .device = where, .kv_tokens = 256});
    struct span *span = chain.spans[0];
    size_t row = chain.n_embd, size = AFTER * row * sizeof(float);
    float *x = calloc((BEFORE + 4 * AFTER) * row, sizeof *x), *next = x + BEFORE * row, *right = next + AFTER * row;
    struct bytes file = {0};
    struct kv *kv = open_kv(span), *copy = open_kv(span), *back = open_kv(span);
    for (size_t i = 0; i < (BEFORE + AFTER) * row; i++) x[i] = (float)(i * 37 % 101) / 50 - 1;
    assert_int_equal(span_forward(span, &(struct batch_item){.kv = kv, .n = BEFORE, .in = x, .out = x}, 1, NULL), COROLLA_OK);
    assert_int_equal(kv_copy(copy, kv, 0, 50, NULL), COROLLA_OK); /* in two pieces */
    assert_int_equal(kv_copy(copy, kv, 50, BEFORE, NULL), COROLLA_OK);
    assert_int_equal(kv_save(kv, BEFORE, put, &file, NULL), COROLLA_OK);
    assert_int_equal(file.n, kv_saved_bytes(kv, BEFORE));
    assert_int_equal(kv_restore(back, BEFORE, get, &file, NULL), COROLLA_OK);
    assert_int_equal(file.taken, file.n);
    struct batch_item alone = {.kv = kv, .position = BEFORE, .n = AFTER, .in = next, .out = right};
    assert_int_equal(span_forward(span, &alone, 1, NULL), COROLLA_OK);
    struct batch_item both[] = {alone, alone};
    both[0].kv = copy;
    both[0].out = right + AFTER * row;
    both[1].kv = back;
    both[1].out = right + 2 * AFTER * row;
    assert_int_equal(span_forward(span, both, 2, NULL), COROLLA_OK);
    assert_memory_equal(right, both[0].out, size);
    assert_memory_equal(right, both[1].out, size);
    kv_close(kv);
    kv_close(copy);
    kv_close(back);
    free(file.at);
    free(x);
    chain_close(&chain);
}

static void caches_are_copied_saved_and_read_back(void **state) {
    (void)state;
    static const char *const types[] = {"f32", "q8_0"}, *const lists[] = {"CPU", "%s", "%s=2", "CPU=1,%s"};
    for (size_t t = 0; t < 2; t++)
        for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
            struct tiny_config config;
            tiny_config_default(&config, "qwen2");
            config.type = types[t];
            const char *path = scratch_file("moved.gguf");
            assert_true(tiny_write(&config, path));
            char list[128];
            snprintf(list, sizeof list, lists[i], device);
            check_moved(path, list);
        }
}

static void lists_of_devices_that_cannot_be_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {",", "CPU,,CPU", "CPU=", "CPU=0", "CPU=4G", "CPU=-1", "=5", "CPU,CPU,CPU,CPU,CPU,CPU,CPU,CPU,CPU"};
    struct corolla_error err;
    struct engine *engine;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(engine_new(&engine, &(struct engine_config){.device = wrong[i], .threads = 1}, &err), COROLLA_INVALID);
}

static void a_device_that_is_not_there_is_named_with_those_that_are(void **state) {
    (void)state;
    struct corolla_error err;
    struct engine *engine;
    assert_int_equal(engine_new(&engine, &(struct engine_config){.device = "NPU7"}, &err), COROLLA_NOT_FOUND);
    assert_non_null(strstr(err.message, "NPU7"));
    assert_non_null(strstr(err.message, "CPU"));
    char nobody[32];
    snprintf(nobody, sizeof nobody, "rpc:127.0.0.1:%u", free_port());
    assert_int_equal(engine_new(&engine, &(struct engine_config){.device = nobody}, &err), COROLLA_NOT_FOUND);
    assert_non_null(strstr(err.message, nobody + strlen("rpc:")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_with_memory_of_its_own_gives_the_same_bits),
        cmocka_unit_test(sessions_on_it_fork_roll_back_and_continue_each_other),
        cmocka_unit_test(blocks_lie_on_several_devices_and_what_has_no_room_on_the_processor),
        cmocka_unit_test(caches_are_copied_saved_and_read_back),
        cmocka_unit_test(lists_of_devices_that_cannot_be_are_refused),
        cmocka_unit_test(a_device_that_is_not_there_is_named_with_those_that_are),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
