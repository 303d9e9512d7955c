/* keys.h - the keys of simulated nodes: real Ed25519, or a hash that stands for it. By number, the same in each run. */
#ifndef COROLLA_TESTS_SIM_KEYS_H
#define COROLLA_TESTS_SIM_KEYS_H

#include "wire/record.h"

void keys_make(bool real, uint64_t number, uint8_t out_key[KEY_SIZE]);
void keys_sign(bool real, uint64_t number, const uint8_t *data, size_t size, uint8_t out[SIGNATURE_SIZE]);
bool keys_verify(bool real, const uint8_t key[KEY_SIZE], const uint8_t *data, size_t size, const uint8_t signature[SIGNATURE_SIZE]);

#endif
