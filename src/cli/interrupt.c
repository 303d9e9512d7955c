/* interrupt.c - see interrupt.h.
 *
 * A signal may come in any thread, and between a look at a flag and the read behind it. So the handler also writes into a pipe,
 * and who waits for input waits for the pipe as well.
 */
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static struct corolla_session *volatile watched;
static volatile sig_atomic_t came, ended;
static int bell[2] = {-1, -1}; /* a byte for every signal; both ends never block */

static void on_signal(int number) {
    int saved = errno;
    came = 1;
    if (number == SIGTERM) ended = 1;
    if (watched) corolla_session_cancel(watched);
    if (bell[1] >= 0 && write(bell[1], "!", 1) < 0) { /* full: it rings already */
    }
    errno = saved;
}

static void bell_open(void) {
    if (bell[0] >= 0 || pipe(bell) != 0) return;
    for (int i = 0; i < 2; i++) {
        fcntl(bell[i], F_SETFL, O_NONBLOCK);
        fcntl(bell[i], F_SETFD, FD_CLOEXEC);
    }
}

void interrupt_watch(struct corolla_session *session) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* no SA_RESTART: a read of the prompt returns */
    bell_open();
    watched = session;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool interrupt_take(void) {
    char byte;
    while (bell[0] >= 0 && read(bell[0], &byte, 1) == 1) {
    }
    bool was = came != 0;
    came = 0;
    return was;
}

bool interrupt_wait(int fd) {
    struct pollfd both[] = {{.fd = fd, .events = POLLIN}, {.fd = bell[0], .events = POLLIN}};
    while (poll(both, 2, -1) < 0 && errno == EINTR) {
    }
    return both[1].revents == 0;
}

bool interrupt_ended(void) { return ended != 0; }
