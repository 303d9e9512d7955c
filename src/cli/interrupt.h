/* interrupt.h - Ctrl-C cancels the session that is running, in run and chat. */
#ifndef COROLLA_CLI_INTERRUPT_H
#define COROLLA_CLI_INTERRUPT_H

#include <corolla.h>

/* From now on SIGINT (and SIGTERM) cancel this session; NULL: they only set the flag. */
void interrupt_watch(struct corolla_session *session);
/* Whether a signal came since the last call. */
bool interrupt_take(void);
/* Waits until fd can be read; false when a signal came instead. */
bool interrupt_wait(int fd);
/* Whether SIGTERM came: the program should end. */
bool interrupt_ended(void);

#endif
