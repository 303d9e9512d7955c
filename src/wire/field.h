/* field.h - the parts that several messages share, between protobuf-c structs and plain ones. Only src/wire includes this.
 *
 * *_ok checks what a peer sent; *_get copies what was checked; *_put points a protobuf struct at a plain one, which must outlive it.
 */
#ifndef COROLLA_WIRE_FIELD_H
#define COROLLA_WIRE_FIELD_H

#include "corolla.pb-c.h"
#include "wire/msg.h"

/* Exactly size bytes. */
bool field_bytes_ok(const ProtobufCBinaryData *bytes, size_t size);
/* Printable UTF-8 that fits size bytes with its NUL. */
bool field_text_ok(const char *text, size_t size);
bool field_addrs_ok(size_t n, char *const *addrs);
bool field_speed_ok(float per_s); /* finite and not negative */
bool field_wire_ok(Corolla__Wire wire);
bool field_node_id_ok(const Corolla__NodeId *p);   /* NULL is not ok */
bool field_node_ref_ok(const Corolla__NodeRef *p); /* NULL is not ok */

void field_text_get(const char *text, char *out);
uint32_t field_addrs_get(size_t n, char *const *addrs, char out[ADDRS_MAX][ADDR_MAX]);
void field_signed_get(const ProtobufCBinaryData *bytes, struct signed_bytes *out); /* len is at most SIGNED_MAX */
void field_node_id_get(const Corolla__NodeId *p, struct node_id *out);
void field_node_ref_get(const Corolla__NodeRef *p, struct node_ref *out);

ProtobufCBinaryData field_bytes_put(const uint8_t *bytes, size_t size);
/* What is not printable is cleaned on the way, since a peer would refuse it; copy has size bytes. */
char *field_text_put(const char *text, size_t size, char *copy);
void field_node_id_put(const struct node_id *id, Corolla__NodeId *p);

struct field_node_ref { /* the memory that a protobuf NodeRef points into */
    Corolla__NodeRef ref;
    Corolla__NodeId id;
    char *addrs[ADDRS_MAX];
};
void field_node_ref_put(const struct node_ref *node, struct field_node_ref *p);
void field_addrs_put(uint32_t n, const char addrs[ADDRS_MAX][ADDR_MAX], char *out[ADDRS_MAX]);

/* Packs a message into out[MSG_HEADER_MAX]; its size. The limits of the plain structs make every message fit. */
size_t field_pack(const ProtobufCMessage *p, uint8_t *out);

#endif
