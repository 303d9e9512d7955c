/* idle.c - what sessions cost a server that nobody uses: prints rows of bench/RESULTS.md.
 *
 *   bench_idle MODEL [SESSIONS [SECONDS]]      default 1000 10
 *
 * One server of all blocks in this process, its clients in another one: as many sessions of 64 tokens as were asked for, of identities with
 * at most 100 each, all links open. Their KV is never touched, so the system has not given it: what the server's resident memory grows by
 * is what a session takes beside its KV.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <corolla.h>

#define TOKENS 64
#define PER_CLIENT 100
#define CLIENTS_MAX 64

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (status == COROLLA_OK) return;
    fprintf(stderr, "bench_idle: %s: %s\n", corolla_status_name(status), err->message);
    exit(1);
}

static double seconds_of_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static double resident_bytes(void) {
    unsigned long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL || fscanf(f, "%lu %lu", &all, &resident) != 2) resident = 0;
    if (f != NULL) fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* Reads the join code, opens all sessions, writes a byte, and ends when its input does. */
static void clients(const char *path, const char *folder, unsigned n, int in, int out) {
    char code[1024] = "", home[256];
    struct corolla_error err;
    struct corolla_model *model;
    struct corolla_swarm *swarm = NULL;
    struct corolla_session *session;
    if (read(in, code, sizeof code - 1) <= 0) _exit(1);
    must(corolla_model_open(&model, path, NULL, NULL, &err), &err);
    for (unsigned i = 0; i < n; i++) {
        if (i % PER_CLIENT == 0) {
            struct corolla_swarm_config config;
            const char *joins[] = {code};
            corolla_swarm_config_default(&config);
            snprintf(home, sizeof home, "%s/client-%u", folder, i / PER_CLIENT);
            config.home = home;
            config.joins = joins;
            config.n_joins = 1;
            config.threads = 1;
            must(corolla_swarm_open(&swarm, model, &config, &err), &err);
        }
        must(corolla_session_open(&session, swarm, TOKENS, &err), &err);
    }
    if (write(out, "r", 1) != 1) _exit(1);
    while (read(in, code, 1) > 0) continue;
    _exit(0);
}

int main(int argc, char **argv) {
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 1000, seconds = argc > 3 ? (unsigned)atoi(argv[3]) : 10;
    char folder[] = "/tmp/corolla-idle-XXXXXX", home[64], byte;
    int to[2], from[2];
    if (argc < 2 || n == 0 || n > CLIENTS_MAX * PER_CLIENT || mkdtemp(folder) == NULL || pipe(to) != 0 || pipe(from) != 0) {
        fprintf(stderr, "usage: bench_idle MODEL [SESSIONS [SECONDS]]\n");
        return 2;
    }
    snprintf(home, sizeof home, "%s/server", folder);
    pid_t child = fork(); /* before this process has threads */
    if (child == 0) {
        close(to[1]);
        clients(argv[1], folder, n, to[0], from[1]);
    }
    close(from[1]);
    struct corolla_error err;
    struct corolla_model *model;
    struct corolla_server *server;
    struct corolla_server_config config;
    corolla_server_config_default(&config);
    config.listen = "127.0.0.1:0";
    config.home = home;
    config.threads = 1;
    must(corolla_model_open(&model, argv[1], NULL, NULL, &err), &err);
    config.end = corolla_model_info(model)->n_blocks;
    config.cache_tokens = n * TOKENS;
    must(corolla_server_start(&server, model, &config, &err), &err);
    double before = resident_bytes();
    const char *code = corolla_server_join_code(server);
    if (write(to[1], code, strlen(code)) < 0 || read(from[0], &byte, 1) != 1) {
        fprintf(stderr, "bench_idle: the clients did not come\n");
        return 1;
    }
    struct corolla_server_stats stats;
    corolla_server_stats(server, &stats);
    double each = (resident_bytes() - before) / n, cpu = seconds_of_cpu();
    sleep(seconds);
    cpu = (seconds_of_cpu() - cpu) / seconds * 100;
    printf("| %u idle sessions: CPU of the server, %% of a core | %.2f | < 1 | %s |\n", stats.sessions, cpu, cpu < 1 ? "yes" : "**no**");
    printf("| the same: memory beyond their KV, KB each | %.1f | < 20 | %s |\n", each / 1000, each < 20000 ? "yes" : "**no**");
    close(to[1]);
    waitpid(child, NULL, 0);
    corolla_server_stop(server);
    corolla_model_close(model);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0;
}
