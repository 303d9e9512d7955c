/* thread.c - see thread.h. */
#include "base/thread.h"

#include <signal.h>

bool thread_start(pthread_t *out_thread, void *(*main)(void *user), void *user) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a thread inherits the mask */
    bool started = pthread_create(out_thread, NULL, main, user) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}
