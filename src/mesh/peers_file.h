/* peers_file.h - HOME/peers: the peers that a node remembers, so that it comes back to its swarm without a join code.
 *
 * The list (peer_list.h) is read once, changed by its owner, and written now and then, by a thread that lives no longer than the writing:
 * disks are slow and the loop must not wait. Several processes of one home share the file: under a lock on HOME/peers.lock each
 * reads what others wrote, adds its own changes, and replaces the file as a whole. A file that makes no sense is moved aside to
 * HOME/peers.corrupt, with one warning.
 *
 * Threads: all functions by one thread at a time.
 */
#ifndef COROLLA_MESH_PEERS_FILE_H
#define COROLLA_MESH_PEERS_FILE_H

#include "mesh/peer_list.h"

#define PEERS_SETTLE_MS 1000 /* from the first change to the writing */
#define PEERS_SAVE_MS 30000  /* between two writings */

struct peers_file;

/* home: the folder that dirs_home gave. What cannot be read is an empty list and a warning. */
enum corolla_status peers_file_open(struct peers_file **out_file, const char *home, struct corolla_error *err);
/* To be read and changed in place between the calls of this file. */
struct peer_list *peers_file_list(struct peers_file *file);
/* Begins or ends a writing when it is time. Returns when to call again, UINT64_MAX: after the next change. */
uint64_t peers_file_tick(struct peers_file *file, uint64_t now_ms);
/* Writes what is not written. May wait for the disk and, for LOCK_MS, for other processes. */
void peers_file_close(struct peers_file *file);

#endif
