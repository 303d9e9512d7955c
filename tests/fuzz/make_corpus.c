/* make_corpus.c - writes the seeds of the fuzz targets for messages, frames, join codes, LAN datagrams, statements of private swarms,
 * records and gossip: make_corpus tests/fuzz/corpus. To be run again when the schema changes; the seeds are committed. */
#include <stdlib.h>
#include <sys/stat.h>

#include "mesh/peer_list.h"
#include "support/samples.h"
#include "wire/join.h"
#include "wire/lan_msg.h"
#include "wire/member.h"

static const char *root;

static void seed(const char *target, const char *name, const void *data, size_t size) {
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", root, target);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/%s", root, target, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static uint8_t buffer[1 + MSG_HEADER_MAX]; /* the message's number, its header */

static void seed_message(unsigned kind, const char *name, enum sample_size how, size_t size) {
    char full[64];
    buffer[0] = (uint8_t)kind;
    snprintf(full, sizeof(full), "%s-%s", name, how == SAMPLE_USUAL ? "usual" : "largest");
    seed("message", full, buffer, 1 + size);
}

static void seed_messages(enum sample_size how) {
    static struct msg_step step;
    uint8_t *header = buffer + 1;
    struct msg_hello hello = sample_hello(how);
    seed_message(0, "hello", how, msg_hello_encode(&hello, header));
    struct msg_info info = sample_info(how);
    seed_message(MSG_INFO, "info", how, msg_info_encode(&info, header));
    struct msg_open open = sample_open(how);
    seed_message(MSG_OPEN, "open", how, msg_open_encode(&open, header));
    struct msg_opened opened = sample_opened(how);
    seed_message(MSG_OPENED, "opened", how, msg_opened_encode(&opened, header));
    sample_step(&step, how ? HOPS_MAX - 2 : 2, 1, how);
    seed_message(MSG_STEP, "step", how, msg_step_encode(&step, header));
    struct msg_result result = sample_result(how);
    seed_message(MSG_RESULT, "result", how, msg_result_encode(&result, header));
    struct msg_failed failed = sample_failed(how);
    seed_message(MSG_FAILED, "failed", how, msg_failed_encode(&failed, header));
    struct msg_close close = sample_close();
    seed_message(MSG_CLOSE, "close", how, msg_close_encode(&close, header));
    struct msg_drain drain = {.leaving = how == SAMPLE_LARGEST};
    seed_message(MSG_DRAIN, "drain", how, msg_drain_encode(&drain, header));
    struct msg_sync sync = sample_sync(how);
    seed_message(MSG_SYNC, "sync", how, msg_sync_encode(&sync, header));
    struct msg_synced synced = sample_synced(how);
    seed_message(MSG_SYNCED, "synced", how, msg_synced_encode(&synced, header));
    seed_message(MSG_REPLAY, "replay", how, msg_step_encode(&step, header));
}

static void seed_frames(void) {
    static const struct {
        const char *name;
        struct frame_header header;
    } frames[] = {
        {"hello", {FRAME_HELLO, 0, 90, 0}},
        {"ping", {FRAME_PING, 0, FRAME_PING_SIZE, 0}},
        {"data-first", {FRAME_DATA, FRAME_FIRST, FRAME_PAYLOAD_MAX, 1}},
        {"data-last", {FRAME_DATA, FRAME_LAST, 1, 2}},
        {"credit", {FRAME_CREDIT, 0, FRAME_CREDIT_SIZE, 3}},
        {"goodbye", {FRAME_GOODBYE, 0, 20, 0}},
    };
    uint8_t bytes[FRAME_HEADER_SIZE];
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        frame_encode(&frames[i].header, bytes);
        seed("frame", frames[i].name, bytes, sizeof(bytes));
    }
    frame_preamble_encode(&(struct frame_preamble){.kind = MSG_STEP, .header_size = 500, .body_size = 2304}, bytes);
    seed("frame", "preamble", bytes, sizeof(bytes));
}

static void seed_joins(void) {
    char code[JOIN_CODE_MAX];
    struct node_ref node = sample_node_ref(9, SAMPLE_USUAL);
    join_encode(&node, code);
    seed("join", "usual", code, strlen(code));
    node = sample_node_ref(9, SAMPLE_LARGEST);
    join_encode(&node, code);
    seed("join", "largest", code, strlen(code));
    struct join_code invitation = {.node = sample_node_ref(9, SAMPLE_USUAL), .is_private = true, .invitation = sample_signed(3)};
    join_code_encode(&invitation, code);
    seed("join", "invitation", code, strlen(code));
    /* The protobuf inside one, put together as in a StepHop: the target writes the code around it. */
    static const char inside[] = "\x0a\x35\x0a\x22\x0a\x20kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\x12\x0f"
                                 "127.0.0.1:31330";
    seed("join", "inside", inside, sizeof(inside) - 1);
}

static void seed_member(unsigned kind, const char *name, const void *statement, size_t size, bool wrapped) {
    static uint8_t out[1 + REVOCATIONS_BYTES_MAX];
    uint8_t signature[SIGNATURE_SIZE];
    sample_bytes(signature, SIGNATURE_SIZE, 1);
    out[0] = (uint8_t)kind;
    memcpy(out + 1, statement, size);
    if (wrapped) size = signed_encode(statement, size, signature, out + 1);
    seed("member", name, out, 1 + size);
}

static void seed_members(void) {
    static struct revocations list = {.number = 9, .n = 3, .serials = {{1}, {2}, {3}}};
    uint8_t statement[REVOCATIONS_BYTES_MAX];
    struct certificate certificate = {.role = COROLLA_ROLE_SERVER, .not_after_s = 1800000000};
    struct invitation invitation = {.role = COROLLA_ROLE_CLIENT, .not_after_s = 1800000000};
    sample_bytes(certificate.swarm, KEY_SIZE, 1);
    sample_bytes(certificate.member, KEY_SIZE, 2);
    sample_bytes(certificate.serial, SERIAL_SIZE, 3);
    sample_bytes(invitation.serial, SERIAL_SIZE, 4);
    sample_bytes(invitation.issuer, KEY_SIZE, 5);
    size_t size = certificate_encode(&certificate, statement);
    seed_member(0, "signed", statement, size, true);
    seed_member(1, "certificate", statement, size, false);
    seed_member(2, "invitation", statement, invitation_encode(&invitation, statement), false);
    seed_member(3, "revocations", statement, revocations_encode(&list, statement), false);
}

static void seed_lan(void) {
    static struct peer_list list;
    static char text[PEER_TEXT_MAX];
    uint8_t bytes[LAN_MSG_SIZE];
    struct lan_msg m = {.asks = true};
    lan_msg_encode(&m, bytes);
    seed("lan", "client", bytes, sizeof(bytes));
    m = (struct lan_msg){.port = 31330, .id = sample_node_id(9, SAMPLE_USUAL)};
    lan_msg_encode(&m, bytes);
    seed("lan", "answer", bytes, sizeof(bytes));
    for (unsigned i = 0; i < 3; i++) {
        struct node_ref node = sample_node_ref(i, i == 2 ? SAMPLE_LARGEST : SAMPLE_USUAL);
        peer_list_linked(&list, &node, i == 1 ? node.id.key : NULL);
    }
    seed("lan", "peers", text, peer_list_format(&list, text));
}

static void seed_record(unsigned what, const char *name, size_t size) {
    buffer[0] = (uint8_t)what;
    seed("record", name, buffer, 1 + size);
}

static void seed_gossip_messages(enum sample_size how) {
    static struct msg_digest digest;
    static struct msg_want want;
    static struct msg_records records;
    const char *suffix = how == SAMPLE_USUAL ? "usual" : "largest";
    char name[64];
    struct record record = sample_record(how);
    snprintf(name, sizeof(name), "record-%s", suffix);
    seed_record(0, name, record_encode(&record, buffer + 1));
    record.membership = sample_signed(23);
    seed_record(0, how ? name : "record-member", record_encode(&record, buffer + 1)); /* the largest has a certificate already */
    sample_versions(&digest.known, how ? SUSPECTS_MAX : 3, how);
    digest.more = digest.leaf = digest.reply = how == SAMPLE_LARGEST;
    snprintf(name, sizeof(name), "digest-%s", suffix);
    seed_record(1, name, msg_digest_encode(&digest, buffer + 1));
    snprintf(name, sizeof(name), "have-%s", suffix);
    seed_record(2, name, msg_have_encode(&digest.known, buffer + 1));
    want.n = digest.known.n;
    for (uint32_t i = 0; i < want.n; i++) {
        want.nodes[i] = digest.known.versions[i].node;
    }
    snprintf(name, sizeof(name), "want-%s", suffix);
    seed_record(3, name, msg_want_encode(&want, buffer + 1));
    sample_records(&records, 2, how);
    snprintf(name, sizeof(name), "records-%s", suffix);
    seed_record(4, name, msg_records_encode(&records, buffer + 1));
    snprintf(name, sizeof(name), "suspect-%s", suffix);
    seed_record(5, name, msg_suspect_encode(&digest.known, buffer + 1));
}

static size_t put_message(uint8_t *out, unsigned kind, unsigned link, const uint8_t *bytes, size_t size) {
    out[0] = (uint8_t)(link << 4 | (kind - MSG_DIGEST));
    out[1] = (uint8_t)size;
    out[2] = (uint8_t)(size >> 8);
    memcpy(out + 3, bytes, size);
    return 3 + size;
}

/* A peer that says hello, brings two records, suspects one, and is lost. */
static void seed_gossip(void) {
    static uint8_t actions[8192], bytes[MSG_HEADER_MAX];
    static struct msg_digest digest;
    static struct msg_records records;
    size_t n = 1;
    actions[0] = 2 * 9;
    n += put_message(actions + n, MSG_DIGEST, 0, bytes, msg_digest_encode(&digest, bytes));
    n += put_message(actions + n, MSG_DIGEST, 1, bytes, msg_digest_encode(&digest, bytes));
    sample_records(&records, 2, SAMPLE_USUAL);
    n += put_message(actions + n, MSG_RECORDS, 1, bytes, msg_records_encode(&records, bytes));
    struct node_id id = sample_node_id(4, SAMPLE_USUAL);
    digest.known.n = 1;
    digest.known.versions[0] = (struct record_version){node_id_digest(&id), 7, 12};
    n += put_message(actions + n, MSG_SUSPECT, 0, bytes, msg_suspect_encode(&digest.known, bytes));
    digest.known.versions[0].sequence = 13;
    n += put_message(actions + n, MSG_HAVE, 0, bytes, msg_have_encode(&digest.known, bytes));
    memcpy(actions + n, "\x0d\x05\x10\x0b\x18\x05\xff\x05\xff\x0a\x05\x20\x0c", 13);
    seed("gossip", "usual", actions, n + 13);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus FOLDER\n");
        return 2;
    }
    root = argv[1];
    mkdir(root, 0777);
    seed_messages(SAMPLE_USUAL);
    seed_messages(SAMPLE_LARGEST);
    seed_frames();
    seed_joins();
    seed_members();
    seed_lan();
    seed_gossip_messages(SAMPLE_USUAL);
    seed_gossip_messages(SAMPLE_LARGEST);
    seed_gossip();
    return 0;
}
