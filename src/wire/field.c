/* field.c - see field.h. */
#include "wire/field.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "wire/addr.h"
#include "wire/frame.h"

bool field_bytes_ok(const ProtobufCBinaryData *bytes, size_t size) { return bytes->len == size; }

bool field_text_ok(const char *text, size_t size) {
    size_t length = strnlen(text, size);
    return length < size && utf8_printable(text, length);
}

bool field_addrs_ok(size_t n, char *const *addrs) {
    if (n > ADDRS_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!addr_valid(addrs[i])) {
            return false;
        }
    }
    return true;
}

bool field_speed_ok(float per_s) { return isfinite(per_s) && per_s >= 0.0f; }

bool field_wire_ok(Corolla__Wire wire) { return msg_wire_size((enum corolla_wire)wire) != 0; }

bool field_node_id_ok(const Corolla__NodeId *p) { return p != NULL && field_bytes_ok(&p->key, KEY_SIZE); }

bool field_node_ref_ok(const Corolla__NodeRef *p) {
    return p != NULL && field_node_id_ok(p->id) && field_addrs_ok(p->n_addresses, p->addresses);
}

void field_text_get(const char *text, char *out) { memcpy(out, text, strlen(text) + 1); }

uint32_t field_addrs_get(size_t n, char *const *addrs, char out[ADDRS_MAX][ADDR_MAX]) {
    for (size_t i = 0; i < n; i++) {
        field_text_get(addrs[i], out[i]);
    }
    return (uint32_t)n;
}

void field_signed_get(const ProtobufCBinaryData *bytes, struct signed_bytes *out) {
    if (bytes->len > 0) {
        memcpy(out->data, bytes->data, bytes->len);
    }
    out->size = (uint32_t)bytes->len;
}

void field_node_id_get(const Corolla__NodeId *p, struct node_id *out) {
    memcpy(out->key, p->key.data, KEY_SIZE);
    out->instance = p->instance;
}

void field_node_ref_get(const Corolla__NodeRef *p, struct node_ref *out) {
    field_node_id_get(p->id, &out->id);
    out->n_addrs = field_addrs_get(p->n_addresses, p->addresses, out->addrs);
}

ProtobufCBinaryData field_bytes_put(const uint8_t *bytes, size_t size) {
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)bytes};
}

char *field_text_put(const char *text, size_t size, char *copy) {
    size_t length = strnlen(text, size - 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    utf8_clean(copy);
    return copy;
}

void field_node_id_put(const struct node_id *id, Corolla__NodeId *p) {
    corolla__node_id__init(p);
    p->key = field_bytes_put(id->key, KEY_SIZE);
    p->instance = id->instance;
}

void field_addrs_put(uint32_t n, const char addrs[ADDRS_MAX][ADDR_MAX], char *out[ADDRS_MAX]) {
    assert(n <= ADDRS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        assert(strnlen(addrs[i], ADDR_MAX) < ADDR_MAX);
        out[i] = (char *)addrs[i];
    }
}

void field_node_ref_put(const struct node_ref *node, struct field_node_ref *p) {
    corolla__node_ref__init(&p->ref);
    field_node_id_put(&node->id, &p->id);
    field_addrs_put(node->n_addrs, node->addrs, p->addrs);
    p->ref.id = &p->id;
    p->ref.n_addresses = node->n_addrs;
    p->ref.addresses = p->addrs;
}

size_t field_pack(const ProtobufCMessage *p, uint8_t *out) {
    size_t size = protobuf_c_message_get_packed_size(p);
    assert(size <= MSG_HEADER_MAX);
    return protobuf_c_message_pack(p, out);
}
