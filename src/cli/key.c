/* key.c - corolla key show | new-swarm | invite | allow | revoke: one function each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/options.h"

/* What the subcommands share. */
struct key {
    struct options options;
    struct corolla_owner owner;
    int role;            /* index of "client|server" */
    const char *expires; /* NULL: not given */
    const char *entry;
    struct corolla_error err;
};

static void add(struct key *k, struct option option) { options_add(&k->options, &option, 1); }

static void add_owner(struct key *k) {
    add(k, (struct option){"--swarm-key", OPTION_TEXT, &k->owner.swarm_key, 0, 0, "FILE", "the swarm's key (swarm.pem in COROLLA_HOME)"});
}

static void add_role(struct key *k) {
    add(k, (struct option){"--role", OPTION_CHOICE, &k->role, 0, 0, "client|server", "what the node may be (client)"});
}

static void add_expires(struct key *k, const char *help) {
    add(k, (struct option){"--expires", OPTION_TEXT, &k->expires, 0, 0, "TIME", help});
}

static enum corolla_role role_of(const struct key *k) { return k->role == 1 ? COROLLA_ROLE_SERVER : COROLLA_ROLE_CLIENT; }

/* "30d", "12h" or "45m" to seconds. 0, or the exit code. */
static int parse_expires(const struct key *k, uint64_t *out_s) {
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}};
    char *end;
    unsigned long long n = k->expires[0] >= '0' && k->expires[0] <= '9' ? strtoull(k->expires, &end, 10) : 0;
    if (n > 0 && n <= 100000 && end[0] && !end[1])
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            if (end[0] != units[i].unit) continue;
            *out_s = n * units[i].seconds;
            return 0;
        }
    return options_refuse(&k->options, "--expires takes days, hours or minutes, as in 30d, 12h or 45m, not \"%s\"", k->expires);
}

/* ---- the subcommands ------------------------------------------------------------------------------------------- */

static int show(struct key *k, int argc, char **argv) {
    char hex[65];
    int code;
    k->options.usage = "key show";
    k->options.about = "Shows the public key of this home (COROLLA_HOME), by which others know it; it is made on first use.";
    if (!options_parse(&k->options, argc, argv, &code)) return code;
    if (corolla_key_show(NULL, hex, &k->err)) return fail(&k->err);
    printf("%s\n", hex);
    return EXIT_GOOD;
}

static int new_swarm(struct key *k, int argc, char **argv) {
    char hex[65];
    int code;
    k->options.usage = "key new-swarm [options]";
    k->options.about = "Makes the key of a private swarm, and prints its public half. Servers of this home are its first members, and\n"
                       "hand out certificates to those who were invited. Keep the file: who has it decides who is in.";
    add_owner(k);
    if (!options_parse(&k->options, argc, argv, &code)) return code;
    if (corolla_key_new_swarm(&k->owner, hex, &k->err)) return fail(&k->err);
    printf("%s\n", hex);
    return EXIT_GOOD;
}

static int invite(struct key *k, int argc, char **argv) {
    char join[COROLLA_JOIN_CODE_SIZE];
    struct corolla_invitation invitation = {0};
    int code;
    k->options.usage = "key invite [options]";
    k->options.about = "Prints a join code that lets one node into the private swarm. It names the server that takes it, which must be\n"
                       "running when the code is used and listen where it does now: give it a fixed port with serve --listen.";
    add(k, (struct option){"--join", OPTION_TEXT, &k->entry, 0, 0, "CODE", "the server that takes it (the last of this home)"});
    add_role(k);
    add_expires(k, "until when it can be used: 45m, 12h, 30d (30d)");
    add_owner(k);
    k->expires = "30d";
    if (!options_parse(&k->options, argc, argv, &code)) return code;
    if ((code = parse_expires(k, &invitation.expires_s))) return code;
    invitation.role = role_of(k);
    invitation.entry = k->entry;
    if (corolla_key_invite(&k->owner, &invitation, join, &k->err)) return fail(&k->err);
    printf("%s\n", join);
    return EXIT_GOOD;
}

static void print_member(void *user, const struct corolla_member *member) {
    char until[32] = "-";
    time_t at = (time_t)member->until_s;
    struct tm tm;
    (void)user;
    if (member->until_s > 0 && gmtime_r(&at, &tm)) strftime(until, sizeof until, "%Y-%m-%dT%H:%M:%SZ", &tm);
    printf("%s %s %s\n", member->node, member->role == COROLLA_ROLE_SERVER ? "server" : "client", until);
}

static int allow(struct key *k, int argc, char **argv) {
    struct corolla_member member = {0};
    uint64_t expires_s = 0;
    int code;
    k->options.usage = "key allow [NODE] [options]";
    k->options.about =
        "Lists the members of the private swarm: key, role, until when. With NODE, a key as \"corolla key show\" prints it there:\n"
        "lets it in without an invitation, or changes its role. It joins by the join code of a server of this home.";
    add_role(k);
    add_expires(k, "until when NODE is a member: 45m, 12h, 30d (without end)");
    add_owner(k);
    k->options.word = "NODE";
    k->options.optional = true;
    if (!options_parse(&k->options, argc, argv, &code)) return code;
    if (!k->options.argument) return corolla_key_members(&k->owner, print_member, NULL, &k->err) ? fail(&k->err) : EXIT_GOOD;
    if (k->expires && (code = parse_expires(k, &expires_s))) return code;
    if (expires_s > 0) member.until_s = (uint64_t)time(NULL) + expires_s;
    member.role = role_of(k);
    snprintf(member.node, sizeof member.node, "%s", k->options.argument);
    if (strlen(k->options.argument) >= sizeof member.node) member.node[0] = '\0'; /* too long to be a key */
    return corolla_key_allow(&k->owner, &member, &k->err) ? fail(&k->err) : EXIT_GOOD;
}

static int revoke(struct key *k, int argc, char **argv) {
    int code;
    k->options.usage = "key revoke NODE [options]";
    k->options.about =
        "Puts a node out of the private swarm: its certificates are void, and members that are linked to it close their links.\n"
        "NODE is its key, or at least 8 digits of the beginning.";
    add_owner(k);
    k->options.word = "NODE";
    if (!options_parse(&k->options, argc, argv, &code)) return code;
    return corolla_key_revoke(&k->owner, k->options.argument, &k->err) ? fail(&k->err) : EXIT_GOOD;
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(struct key *k, int argc, char **argv);
} words[] = {{"show", show}, {"new-swarm", new_swarm}, {"invite", invite}, {"allow", allow}, {"revoke", revoke}};

int key_main(int argc, char **argv) {
    struct key k = {0};
    int code;
    for (size_t i = 0; argc > 1 && i < sizeof words / sizeof words[0]; i++)
        if (strcmp(argv[1], words[i].name) == 0) return words[i].run(&k, argc - 1, argv + 1);
    k.options = (struct options){.usage = "key show | new-swarm | invite | allow | revoke [--help]",
                                 .about = "show       this home's public key\n"
                                          "new-swarm  make a private swarm\n"
                                          "invite     print a join code that lets one node into it\n"
                                          "allow      list its members; let a node in by its key\n"
                                          "revoke     put a node out of it",
                                 .word = "what to do (show, new-swarm, invite, allow or revoke)"};
    if (!options_parse(&k.options, argc, argv, &code)) return code;
    return options_refuse(&k.options, "key %s: there is key show, new-swarm, invite, allow and revoke", k.options.argument);
}
