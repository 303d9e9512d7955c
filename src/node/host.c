/* host.c - see host.h. */
#include "node/host.h"

#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "node/measure_cache.h"
#include "node/memory.h"
#include "node/spool.h"

#define CACHE_TOKENS_DEFAULT 16384 /* a few users with some thousand tokens each */

/* For every position of KV the row that a session may keep, in the widest wire type. */
static uint64_t rows_bytes(const struct hparams *hparams, uint64_t tokens) { return tokens * hparams->n_embd * sizeof(float); }

/* What blocks [begin, end) need, as the loader will have it. */
static struct memory_plan plan_of(const struct host_config *config, uint32_t begin, uint32_t end) {
    const struct hparams *hp = model_file_hparams(config->file);
    uint64_t available = memory_available() + engine_own_memory(config->engine);
    if (config->memory_max > 0 && config->memory_max < available) available = config->memory_max;
    return (struct memory_plan){.available = available,
                                .weights = memory_of_weights(config->file, begin, end),
                                .per_pad = span_kv_bytes(hp, end - begin, config->kv, KV_PAD) + rows_bytes(hp, KV_PAD),
                                .pad = KV_PAD,
                                .cache_tokens = config->cache_tokens,
                                .cache_tokens_default = CACHE_TOKENS_DEFAULT};
}

/* Whether n blocks have room for all the KV that is wanted, wherever they begin. */
static bool fits(const struct host_config *config, uint32_t n) {
    uint32_t n_blocks = model_file_hparams(config->file)->n_blocks, tokens = 0;
    struct memory_plan dearest = plan_of(config, 0, n);
    for (uint32_t begin = 1; begin + n <= n_blocks; begin++) {
        uint64_t weights = memory_of_weights(config->file, begin, begin + n);
        if (weights > dearest.weights) dearest.weights = weights;
    }
    uint32_t wanted = config->cache_tokens > 0 ? config->cache_tokens : CACHE_TOKENS_DEFAULT;
    return memory_cache_tokens(&dearest, &tokens, NULL) == COROLLA_OK && tokens >= wanted;
}

uint32_t host_blocks_that_fit(const struct host_config *config) {
    uint32_t low = 0, high = model_file_hparams(config->file)->n_blocks;
    while (low < high) { /* more blocks never need less */
        uint32_t middle = low + (high - low + 1) / 2;
        if (fits(config, middle))
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* What the cache knows the speed of this host by; machine: room for the name. */
static struct measure_key speed_key(const struct host *host, struct utsname *machine) {
    *machine = (struct utsname){0};
    (void)uname(machine);
    return (struct measure_key){.model = model_file_id(host->file),
                                .begin = host->begin,
                                .end = host->end,
                                .threads = engine_threads(span_engine(host->span)),
                                .arithmetic_class = span_arithmetic_class(host->span),
                                .version = COROLLA_VERSION,
                                .machine = machine->nodename};
}

/* From the cache, or measured. */
static void find_speed(struct host *host) {
    struct utsname machine;
    struct measure_key key = speed_key(host, &machine);
    bool cached = measure_cache_read(&host->measure, &key);
    if (!cached) measure_span(&host->measure, host->span);
    log_info("loaded blocks=%u:%u exact=%d decode_tokens_per_s=%.1f prefill_tokens_per_s=%.1f cached=%d", host->begin, host->end,
             span_exact(host->span), (double)host->measure.decode_tokens_per_s, (double)host->measure.prefill_tokens_per_s, cached);
}

enum corolla_status host_load(struct host **out, const struct host_config *config, struct corolla_error *err) {
    const struct hparams *hp = model_file_hparams(config->file);
    uint32_t tokens = 0;
    struct memory_plan plan = plan_of(config, config->begin, config->end);
    enum corolla_status status = memory_cache_tokens(&plan, &tokens, err);
    if (status != COROLLA_OK) return status;
    struct host *host = calloc(1, sizeof *host);
    if (!host) return err_set(err, COROLLA_NOMEM, "out of memory for a server");
    host->spool = -1;
    struct span_config span = {.begin = config->begin, .end = config->end, .kv = config->kv};
    span.kv_bytes = span_kv_bytes(hp, config->end - config->begin, config->kv, tokens);
    status = span_load(&host->span, config->engine, config->file, &span, err);
    if (status != COROLLA_OK) {
        host_free(host);
        return status;
    }
    host->begin = config->begin;
    host->end = config->end;
    host->rows_bytes_left = (int64_t)rows_bytes(hp, (tokens + KV_PAD - 1) / KV_PAD * KV_PAD);
    host->spool_max = config->swap_bytes;
    if (config->swap_bytes > 0 && (host->spool = spool_open(config->home, err)) < 0) {
        host_free(host);
        return COROLLA_IO;
    }
    host->cache_tokens = tokens;
    host->session_tokens_max = hp->n_ctx_train < tokens ? hp->n_ctx_train : tokens;
    host->file = config->file;
    find_speed(host);
    *out = host;
    return COROLLA_OK;
}

enum corolla_status host_start(struct host *host, struct net *net, void (*notify)(void *user), void *user, struct corolla_error *err) {
    struct compute_config config = {.span = host->span, .net = net, .spool = host->spool, .notify = notify, .user = user};
    return compute_new(&host->compute, &config, err);
}

void host_stop(struct host *host) {
    compute_free(host->compute);
    host->compute = NULL;
}

void host_free(struct host *host) {
    struct utsname machine;
    if (!host) return;
    host_stop(host);
    if (host->file) { /* as real work has corrected it */
        struct measure_key key = speed_key(host, &machine);
        measure_cache_write(&host->measure, &key);
    }
    span_free(host->span);
    if (host->spool >= 0) close(host->spool);
    free(host);
}
