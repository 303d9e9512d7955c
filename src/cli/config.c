/* config.c - see config.h. */
#include "cli/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"

#define NAME_MAX_SIZE 64 /* of an option; no real one is as long */
#define SPACES " \t\r"

/* Reads at most size bytes. False with errno when that fails. */
static bool read_file(const char *path, char *out, size_t size, size_t *out_size) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    *out_size = fread(out, 1, size, f);
    int error = ferror(f) ? errno : 0;
    fclose(f);
    errno = error;
    return error == 0;
}

static bool is_text(const char *line) {
    for (; *line; line++) {
        unsigned char c = (unsigned char)*line;
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f) return false;
    }
    return true;
}

static void cut_comment(char *line) {
    for (char *at = strchr(line, '#'); at; at = strchr(at + 1, '#')) {
        if (at > line && !strchr(SPACES, at[-1])) continue;
        *at = '\0';
        return;
    }
}

static void cut_spaces_behind(char *line) {
    size_t size = strlen(line);
    while (size > 0 && strchr(SPACES, line[size - 1])) size--;
    line[size] = '\0';
}

/* One line that is not blank, without spaces around it. */
static int take_line(struct options *o, char *line) {
    char name[NAME_MAX_SIZE + 3];
    size_t size = strcspn(line, SPACES "=");
    char *value = line + size;
    value += strspn(value, SPACES);
    if (*value == '=') value += 1 + strspn(value + 1, SPACES);
    if (size == 0 || size > NAME_MAX_SIZE || line[0] == '-')
        return options_refuse(o, "\"%.40s\" is not the name of an option without its dashes", line);
    if (*value == '\0') value = NULL;
    if (o->word && strlen(o->word) == size && strncasecmp(line, o->word, size) == 0) {
        if (!value) return options_refuse(o, "%.*s needs a value", (int)size, line);
        o->argument = value;
        return 0;
    }
    snprintf(name, sizeof name, "--%.*s", (int)size, line);
    if (strcmp(name, "--config") == 0 || strcmp(name, "--help") == 0) return options_refuse(o, "%s has no place in a file", name);
    return options_set(o, name, strlen(name), value);
}

int config_read(struct options *o, const char *path) {
    static char text[CONFIG_SIZE_MAX + 2]; /* values stay in it; the program reads one file */
    size_t size = 0;
    if (!read_file(path, text, CONFIG_SIZE_MAX + 1, &size)) {
        fprintf(stderr, "corolla: cannot read %s: %s\n", path, strerror(errno));
        return EXIT_FAILED;
    }
    if (size > CONFIG_SIZE_MAX) return options_refuse(o, "%s has more than %u bytes: it is not a file of options", path, CONFIG_SIZE_MAX);
    text[size] = '\0';
    o->file = path;
    o->line = 1;
    for (char *line = text, *end; line <= text + size; line = end + 1, o->line++) {
        end = line + strcspn(line, "\n");
        bool whole = *end == '\n' || end == text + size; /* else a byte 0 ended it */
        *end = '\0';
        if (!whole || !is_text(line)) return options_refuse(o, "the line is not text");
        cut_comment(line);
        cut_spaces_behind(line);
        line += strspn(line, SPACES);
        int code = *line ? take_line(o, line) : 0;
        if (code) return code;
    }
    o->file = NULL;
    return 0;
}
