/* interrupt.c - see interrupt.h. */
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

static struct corolla_session *volatile watched;
static volatile sig_atomic_t came, ended;

static void on_signal(int number) {
    came = 1;
    if (number == SIGTERM) ended = 1;
    if (watched) corolla_session_cancel(watched);
}

void interrupt_watch(struct corolla_session *session) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* no SA_RESTART: a read of the prompt returns */
    watched = session;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupt_take(void) {
    bool was = came != 0;
    came = 0;
    return was;
}

bool interrupt_ended(void) { return ended != 0; }
