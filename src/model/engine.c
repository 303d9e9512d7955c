/* engine.c - see engine.h. */
#include "model/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cores.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "crypto/digest.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "kernel/attention.h"
#include "kernel/product.h"
#include "model/proof.h"
#include "model/rpc.h"

#define DEVICE_NAME_MAX 160
#define MEMORY_RESERVE (64ull << 20) /* of a device, for scratch */
#define REPACK_MEMO_MAX 64           /* weight types times shapes of one model: a dozen in practice */

struct repack_memo {
    int type;
    int64_t columns, rows;
    ggml_backend_buffer_type_t buft; /* NULL: plain */
};

struct engine {
    struct engine *next;
    ggml_backend_t backend;
    uint64_t memory_max; /* 0: what is free */
    ggml_threadpool_t pool;
    void (*pool_free)(ggml_threadpool_t pool);
    uint32_t threads;
    bool fast, spare;
    size_t n_memos;
    struct repack_memo memos[REPACK_MEMO_MAX];
};

static void log_ggml(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    size_t n = strcspn(text, "\n");
    if (n > 0) log_write(level == GGML_LOG_LEVEL_ERROR ? COROLLA_LOG_WARN : COROLLA_LOG_DEBUG, "ggml: %.*s", (int)n, text);
}

/* ggml reads these once per process, at its first computation. */
static enum corolla_status set_process_mode(bool fast, struct corolla_error *err) {
    static int mode; /* 0: not yet, 1: exact, 2: fast */
    if (mode == 0) {
        /* The tiled K-quant kernel takes over from 8 rows on and sums in another order. */
        setenv("GGML_CPU_TILED_MM", fast ? "1" : "0", 1);
        setenv("GGML_NO_BACKTRACE", "1", 1);
        ggml_log_set(log_ggml, NULL);
        ggml_backend_load_all(); /* nothing to do unless the engine was built with loadable backends */
        mode = fast ? 2 : 1;
    }
    if (mode != (fast ? 2 : 1)) return err_set(err, COROLLA_INVALID, "exact and fast engines cannot share one process");
    return COROLLA_OK;
}

static ggml_backend_dev_t find_device(const char *name, struct corolla_error *err) {
    char names[256] = "";
    if (name && strncmp(name, RPC_PREFIX, strlen(RPC_PREFIX)) == 0) return rpc_device(name + strlen(RPC_PREFIX), err);
    if (!name) return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t dev = ggml_backend_dev_get(i);
        if (strcmp(ggml_backend_dev_name(dev), name) == 0) return dev;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", ggml_backend_dev_name(dev));
    }
    err_set(err, COROLLA_NOT_FOUND, "there is no device %s here; there are: %s", name, names);
    return NULL;
}

static uint32_t count_cores(void) {
    uint32_t n = cores_free();
    return n <= GGML_MAX_N_THREADS ? n : GGML_MAX_N_THREADS;
}

/* An own pool that sleeps between graphs: an idle engine costs nothing, and no thread is made per graph. The CPU
 * backend's functions are looked up by name, since an engine with loadable backends cannot be linked against them. */
static enum corolla_status start_threads(struct engine *e, bool awake, struct corolla_error *err) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(e->backend));
    ggml_backend_set_n_threads_t set_threads =
        (ggml_backend_set_n_threads_t)ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    if (!set_threads) return COROLLA_OK; /* not a CPU */
    set_threads(e->backend, (int)e->threads);
    ggml_threadpool_t (*pool_new)(struct ggml_threadpool_params *) =
        (ggml_threadpool_t(*)(struct ggml_threadpool_params *))ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_new");
    void (*set_pool)(ggml_backend_t, ggml_threadpool_t) =
        (void (*)(ggml_backend_t, ggml_threadpool_t))ggml_backend_reg_get_proc_address(reg, "ggml_backend_cpu_set_threadpool");
    e->pool_free = (void (*)(ggml_threadpool_t))ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_free");
    if (!pool_new || !set_pool || !e->pool_free) return COROLLA_OK; /* an OpenMP build brings its own threads */
    struct ggml_threadpool_params params = ggml_threadpool_params_default((int)e->threads);
    params.poll = awake ? 1 : 0; /* of 100 */
    e->pool = pool_new(&params);
    if (!e->pool) return err_set(err, COROLLA_NOMEM, "cannot start %u compute threads", e->threads);
    set_pool(e->backend, e->pool);
    return COROLLA_OK;
}

static enum corolla_status device_new(struct engine **out, const struct engine_config *config, const char *name, uint64_t memory_max,
                                      struct corolla_error *err) {
    struct corolla_error why = {.status = COROLLA_NOT_FOUND};
    ggml_backend_dev_t device = find_device(name, &why);
    if (!device) return err_set(err, why.status, "%s", why.message[0] ? why.message : "the engine has no CPU device");
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return err_set(err, COROLLA_NOMEM, "out of memory");
    *e = (struct engine){.fast = config->fast, .threads = config->threads ? config->threads : count_cores(), .memory_max = memory_max};
    e->backend = ggml_backend_dev_init(device, NULL);
    enum corolla_status status = e->backend ? start_threads(e, config->awake, err)
                                            : err_set(err, COROLLA_INTERNAL, "cannot start device %s", ggml_backend_dev_name(device));
    if (status)
        engine_free(e);
    else
        *out = e;
    return status;
}

bool engine_is_processor(const struct engine *e) {
    return ggml_backend_dev_type(ggml_backend_get_device(e->backend)) == GGML_BACKEND_DEVICE_TYPE_CPU;
}

/* One name of the list at *text, which then begins behind it. */
static enum corolla_status take_name(const char **text, char name[DEVICE_NAME_MAX], uint64_t *out_memory_max, struct corolla_error *err) {
    size_t n = strcspn(*text, ",=");
    *out_memory_max = 0;
    if (n == 0 || n >= DEVICE_NAME_MAX) return err_set(err, COROLLA_INVALID, "%.64s is no list of devices", *text);
    snprintf(name, DEVICE_NAME_MAX, "%.*s", (int)n, *text);
    *text += n;
    if (**text == '=') {
        char *end;
        unsigned long long mib = strtoull(*text + 1, &end, 10);
        if (mib == 0 || mib > 1u << 30 || (*end && *end != ','))
            return err_set(err, COROLLA_INVALID, "%s%.64s: behind a device stands how many MiB of it to take, as in %s=4096", name, *text,
                           name);
        *out_memory_max = mib << 20;
        *text = end;
    }
    if (**text == ',') ++*text;
    return COROLLA_OK;
}

enum corolla_status engine_new(struct engine **out, const struct engine_config *config, struct corolla_error *err) {
    enum corolla_status status = set_process_mode(config->fast, err);
    if (status) return status;
    if (config->threads > GGML_MAX_N_THREADS)
        return err_set(err, COROLLA_INVALID, "%u threads are more than the engine's %d", config->threads, GGML_MAX_N_THREADS);
    if (config->threads > count_cores())
        log_warn("more compute threads than cores threads=%u cores=%u effect=\"they wait for each other\"", config->threads, count_cores());
    struct engine *first = NULL, **last = &first;
    bool processor = false;
    uint32_t n = 0;
    for (const char *text = config->device; text && *text && !status;) {
        char name[DEVICE_NAME_MAX];
        uint64_t memory_max;
        status = ++n < ENGINE_DEVICES_MAX ? take_name(&text, name, &memory_max, err)
                                          : err_set(err, COROLLA_INVALID, "more than %d devices", ENGINE_DEVICES_MAX - 1);
        if (!status) status = device_new(last, config, name, memory_max, err);
        if (status) break;
        processor = processor || engine_is_processor(*last);
        last = &(*last)->next;
    }
    if (!status && !processor) status = device_new(last, config, NULL, 0, err);
    if (!status && !processor) (*last)->spare = first != *last;
    if (status)
        engine_free(first);
    else
        *out = first;
    return status;
}

void engine_free(struct engine *e) {
    while (e) {
        struct engine *next = e->next;
        if (e->backend) ggml_backend_free(e->backend);
        if (e->pool) e->pool_free(e->pool);
        free(e);
        e = next;
    }
}

struct engine *engine_next(const struct engine *e) {
    return e->next;
}
bool engine_is_spare(const struct engine *e) { return e->spare; }
const char *engine_name(const struct engine *e) { return ggml_backend_dev_name(ggml_backend_get_device(e->backend)); }

uint64_t engine_memory(const struct engine *e) {
    size_t free_bytes, total;
    ggml_backend_dev_memory(ggml_backend_get_device(e->backend), &free_bytes, &total);
    uint64_t usable = free_bytes > MEMORY_RESERVE ? free_bytes - MEMORY_RESERVE : 0;
    return e->memory_max && e->memory_max < usable ? e->memory_max : usable;
}

uint64_t engine_own_memory(const struct engine *e) {
    uint64_t bytes = 0;
    for (; e; e = e->next)
        if (!engine_is_processor(e)) bytes += engine_memory(e);
    return bytes;
}

uint32_t engine_threads(const struct engine *e) { return e->threads; }
bool engine_fast(const struct engine *e) { return e->fast; }
struct ggml_backend *engine_backend(const struct engine *e) {
    return e->backend;
}

/* The device's first extra buffer type whose kernels take a weight of this type and shape. */
static ggml_backend_buffer_type_t supported_extra_type(const struct engine *e, int type, int64_t columns, int64_t rows) {
    ggml_backend_dev_t dev = ggml_backend_get_device(e->backend);
    ggml_backend_dev_get_extra_bufts_t get = (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(dev), "ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t *list = get ? get(dev) : NULL;
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){.mem_size = 8 * ggml_tensor_overhead(), .no_alloc = true});
    ggml_backend_buffer_type_t found = NULL;
    for (; ctx && list && *list && !found; list++) {
        struct ggml_tensor *w = ggml_new_tensor_2d(ctx, (enum ggml_type)type, columns, rows);
        struct ggml_tensor *x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, columns, 64);
        struct ggml_tensor *y = ggml_mul_mat(ctx, w, x);
        w->buffer = ggml_backend_buft_alloc_buffer(*list, 0);
        if (w->buffer && ggml_backend_dev_supports_op(dev, y)) found = *list;
        ggml_backend_buffer_free(w->buffer);
        ggml_reset(ctx);
    }
    ggml_free(ctx);
    return found;
}

struct ggml_backend_buffer_type *engine_repack_type(struct engine *e, int type, int64_t columns, int64_t rows) {
    for (size_t i = 0; i < e->n_memos; i++)
        if (e->memos[i].type == type && e->memos[i].columns == columns && e->memos[i].rows == rows) return e->memos[i].buft;
    if (engine_is_processor(e) && product_can(type, columns)) return NULL;
    ggml_backend_buffer_type_t buft = supported_extra_type(e, type, columns, rows);
    if (buft && !e->fast && !proof_kernel(e, buft, type, columns)) buft = NULL;
    if (e->n_memos < REPACK_MEMO_MAX) e->memos[e->n_memos++] = (struct repack_memo){type, columns, rows, buft};
    return buft;
}

enum corolla_status engine_compute(struct engine *e, struct ggml_cgraph *graph, struct corolla_error *err) {
    enum ggml_status status = ggml_backend_graph_compute(e->backend, graph);
    if (status != GGML_STATUS_SUCCESS)
        return err_set(err, COROLLA_INTERNAL, "the device failed to compute: %s", ggml_status_to_string(status));
    return COROLLA_OK;
}

uint64_t engine_class(const struct engine *e) {
    char text[4096];
    ggml_backend_dev_t dev = ggml_backend_get_device(e->backend);
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(dev);
    int n = snprintf(text, sizeof text, "%s %s %s %d", ggml_version(), ggml_commit(), ggml_backend_dev_name(dev), e->fast);
    if (engine_is_processor(e) && product_can(GGML_TYPE_Q8_0, 32))
        n += snprintf(text + n, sizeof text - (size_t)n, " %s %s", PRODUCT_NAME, ATTENTION_NAME);
    ggml_backend_get_features_t get = (ggml_backend_get_features_t)ggml_backend_reg_get_proc_address(reg, "ggml_backend_get_features");
    for (struct ggml_backend_feature *f = get ? get(reg) : NULL; f && f->name && n > 0 && (size_t)n < sizeof text; f++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s=%s", f->name, f->value);
    uint8_t digest[DIGEST_SIZE];
    digest_once(text, strlen(text), digest);
    return le64_get(digest);
}
