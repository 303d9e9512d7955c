/* greedy.h - greedy text of a model, corolla's beside libllama's. */
#ifndef COROLLA_TESTS_GREEDY_H
#define COROLLA_TESTS_GREEDY_H

#include <stdint.h>

/* The path that COROLLA_TEST_MODEL names; ends the test without one. */
const char *real_model(void);

/* 64 greedy tokens behind each of the first n_prompts of prompts.txt. Teacher-forced over corolla's text, libllama's choice must be
 * the same wherever its two tokens are further apart than margin; 0: everywhere; and for 94 % of them. Prints the counts, ends the test on
 * a difference. */
void greedy_compare(const char *path, uint32_t n_prompts, float margin);

#endif
