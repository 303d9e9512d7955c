/* sanitized.h - whether a sanitizer watches this run. It sees in a few what it sees in many, so tests that repeat a computation for its
 * numbers do it less often then; and it is slow, which limits on time allow for. */
#ifndef TEST_SUPPORT_SANITIZED_H
#define TEST_SUPPORT_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#define SLOWER 4
#else
#define SANITIZED 0
#define SLOWER 1
#endif

#endif
