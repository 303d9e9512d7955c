/* ask.c - answers many prompts greedily through the public API, for tests that compare tokens:
 *
 *   ask MODEL PROMPTS TOKENS [WORKERS [CODE]...]
 *
 * PROMPTS has one prompt per line. Prints one line per prompt, in order: the ids of its new tokens. Without a join code all
 * blocks are computed in this process. WORKERS threads ask at the same time, each with sessions of its own, so that servers
 * see mixed batches.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <corolla.h>

#define PROMPTS_MAX 64
#define WORKERS_MAX 16

struct ask {
    struct corolla_model *model;
    struct corolla_swarm *swarm;
    uint32_t n_new;
    size_t n;
    int32_t *tokens[PROMPTS_MAX]; /* of the prompts */
    size_t n_tokens[PROMPTS_MAX];
    struct corolla_result results[PROMPTS_MAX];
    size_t next; /* atomic */
};

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (!status) return;
    fprintf(stderr, "ask: %s: %s\n", corolla_status_name(status), err->message);
    exit(1);
}

static void read_prompts(struct ask *a, const char *path) {
    char line[4096];
    struct corolla_error err;
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(1);
    }
    while (a->n < PROMPTS_MAX && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        must(corolla_tokenize(a->model, line, strlen(line), true, false, &a->tokens[a->n], &a->n_tokens[a->n], &err), &err);
        a->n++;
    }
    fclose(file);
}

static void *work(void *user) {
    struct ask *a = user;
    struct corolla_generation generation;
    struct corolla_error err;
    corolla_generation_default(&generation);
    generation.sampling.temp = 0;
    generation.max_new_tokens = a->n_new;
    for (size_t i; (i = __atomic_fetch_add(&a->next, 1, __ATOMIC_RELAXED)) < a->n;) {
        struct corolla_session *session;
        must(corolla_session_open(&session, a->swarm, (uint32_t)a->n_tokens[i] + a->n_new, &err), &err);
        must(corolla_generate(session, 0, a->tokens[i], a->n_tokens[i], &generation, &a->results[i], &err), &err);
        corolla_session_close(session);
    }
    return NULL;
}

static void run(struct ask *a, size_t workers) {
    pthread_t threads[WORKERS_MAX];
    for (size_t i = 0; i < workers; i++)
        if (pthread_create(&threads[i], NULL, work, a)) abort();
    for (size_t i = 0; i < workers; i++) pthread_join(threads[i], NULL);
}

int main(int argc, char **argv) {
    struct ask a = {0};
    struct corolla_swarm_config config;
    struct corolla_error err;
    if (argc < 4) {
        fprintf(stderr, "usage: ask MODEL PROMPTS TOKENS [WORKERS [CODE]...]\n");
        return 2;
    }
    size_t workers = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;
    if (workers < 1 || workers > WORKERS_MAX) return 2;
    a.n_new = (uint32_t)strtoul(argv[3], NULL, 10);
    must(corolla_model_open(&a.model, argv[1], NULL, NULL, &err), &err);
    read_prompts(&a, argv[2]);
    corolla_swarm_config_default(&config);
    config.local = argc <= 5;
    config.threads = 1;
    config.exact = true;
    config.joins = (const char *const *)argv + 5;
    config.n_joins = argc > 5 ? (size_t)argc - 5 : 0;
    must(corolla_swarm_open(&a.swarm, a.model, &config, &err), &err);
    run(&a, workers);
    for (size_t i = 0; i < a.n; i++) {
        for (size_t t = 0; t < a.results[i].n_tokens; t++) printf("%s%d", t ? " " : "", a.results[i].tokens[t]);
        putchar('\n');
        corolla_result_clear(&a.results[i]);
        corolla_free(a.tokens[i]);
    }
    corolla_swarm_close(a.swarm);
    corolla_model_close(a.model);
    return 0;
}
