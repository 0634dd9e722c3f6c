#include "tests/support/venv.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/must.h"
#include "common/spawn.h"

#define MAKE_MS 30000

/* As `python3 -m venv` does it, which Debian has in a package of its own. */
static const char script[] =
    "set -e; cd \"$1\"; mkdir -p venv/bin\n"
    "ln -s /usr/bin/python3 venv/bin/python3\n"
    "echo 'home = /usr/bin' > venv/pyvenv.cfg\n"
    "site=$(venv/bin/python3 -c 'import sysconfig as s\n"
    "print(s.get_path(\"purelib\", \"venv\"))')\n"
    "mkdir -p \"$site/$2-1.dist-info\"\n"
    ": > \"$site/$2.py\"\n"
    "printf 'Metadata-Version: 2.1\\nName: %s.Dist\\nVersion: 1\\n' \"$2\" "
    "> \"$site/$2-1.dist-info/METADATA\"\n";

void venv_make(const char *dir, const char *module, char *out, size_t size)
{
    const char *argv[] = {"/bin/sh", "-c", script, "sh", dir, module, NULL};
    char *text = NULL;
    int code = 0;

    MUST0(spawn_read(argv, NULL, false, 4096, clock_ms() + MAKE_MS, &text,
                     &code));
    MUST0(code);
    free(text);
    MUST((size_t)snprintf(out, size, "%s/venv/bin/python3", dir) < size);
}

void venv_make_seeing_system(char dir_out[VENV_DIR_MAX], const char *module,
                             char *out, size_t size)
{
    char path[PATH_MAX];
    FILE *file;

    /* Below /tmp, where a checkout may be, no interpreter can be shown. */
    mkdir("build/tmp", 0755);
    strcpy(dir_out, access("/opt", W_OK) == 0 ? "/opt/capibox-venv-XXXXXX"
                                              : "build/tmp/venv-XXXXXX");
    MUST(mkdtemp(dir_out) && realpath(dir_out, path));
    MUST0(chmod(dir_out, 0755));
    venv_make(path, module, out, size);
    snprintf(path, sizeof(path), "%s/venv/pyvenv.cfg", dir_out);
    MUST((file = fopen(path, "a")) &&
         fputs("include-system-site-packages = true\n", file) >= 0);
    MUST0(fclose(file));
}

void venv_write(const char *dir, const char *module, const char *source)
{
    char path[PATH_MAX];
    glob_t found;
    FILE *file;

    snprintf(path, sizeof(path), "%s/venv/lib/*/site-packages", dir);
    MUST0(glob(path, 0, NULL, &found));
    snprintf(path, sizeof(path), "%s/%s.py", found.gl_pathv[0], module);
    globfree(&found);
    MUST((file = fopen(path, "w")) && fputs(source, file) >= 0);
    MUST0(fclose(file));
}
