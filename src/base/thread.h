/* thread.h - threads of our own. */
#ifndef COROLLA_BASE_THREAD_H
#define COROLLA_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* Starts a thread that takes no signals: they are for the threads of the application. False: it could not be started. */
bool thread_start(pthread_t *out_thread, void *(*main)(void *user), void *user);

#endif
