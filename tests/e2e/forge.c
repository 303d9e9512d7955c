/* forge.c - writes invitations that `corolla key invite` does not, for tests of what refuses them:
 *
 *   forge SIGNER ENTRY ROLE SECONDS
 *
 * SIGNER is the key file that signs, of the swarm or not; ENTRY the join code of the server that is to take the invitation; ROLE 1 or 2; it
 * ended SECONDS ago.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/keyfile.h"
#include "crypto/rand.h"
#include "swarm/member.h"
#include "wire/join.h"

static void must(enum corolla_status status, const struct corolla_error *err) {
    if (!status) return;
    fprintf(stderr, "forge: %s\n", err->message);
    exit(1);
}

int main(int argc, char **argv) {
    struct corolla_error err;
    struct join_code code;
    void *key;
    char text[JOIN_CODE_MAX];
    if (argc != 5) return 2;
    must(keyfile_open(argv[1], &key, &err), &err);
    must(join_code_decode(argv[2], &code, &err), &err);
    struct invitation invitation = {.role = (enum corolla_role)atoi(argv[3]),
                                    .not_after_s = (uint64_t)(time(NULL) - strtol(argv[4], NULL, 10))};
    rand_bytes(invitation.serial, SERIAL_SIZE);
    memcpy(invitation.issuer, code.node.id.key, KEY_SIZE);
    must(member_invite(key, &invitation, &code.invitation, &err), &err);
    join_code_encode(&code, text);
    puts(text);
    keyfile_free(key);
    return 0;
}
