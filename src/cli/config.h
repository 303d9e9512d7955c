/* config.h - the options of a command from a file: one per line, "name value" or "name = value", with the names of the command line
 * without their dashes; a flag is its name alone, and the positional argument goes by its own name ("model PATH").
 *
 * Blank lines are skipped; "#" at the beginning of a line or behind a space begins a comment. A value is taken as it stands, spaces
 * inside included: there are no quotes and no escapes.
 */
#ifndef COROLLA_CLI_CONFIG_H
#define COROLLA_CLI_CONFIG_H

#include "cli/options.h"

#define CONFIG_SIZE_MAX (64u << 10) /* far more than all options with 64 join codes take */

/* Sets what the file says, as if it came first on the command line. 0, or the exit code; the message names file and line. */
int config_read(struct options *options, const char *path);

#endif
