#include "common/packages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/imports.h"
#include "common/scope.h"
#include "common/spawn.h"

#define OUTPUT_BYTES_MAX (2u << 20)
#define KEY_MAX          256
#define WORDS            5 /* of the command line, before the names */

/* Modules on the path, namespaces too, and the names of distributions, as a
 * module may be called differently. The names we ask for are also looked up as
 * an import would: some packages come by hooks. */
static const char program[] =
    "import os, pkgutil, sys, importlib.util\n"
    "names = set(sys.builtin_module_names)\n"
    "names.update(m.name for m in pkgutil.iter_modules())\n"
    "for folder in sys.path:\n"
    "    try:\n"
    "        names.update(e.name for e in os.scandir(folder)\n"
    "                     if e.name.isidentifier() and e.is_dir())\n"
    "    except OSError:\n"
    "        pass\n"
    "try:\n"
    "    from importlib.metadata import distributions\n"
    "    names.update(d.metadata['Name'] for d in distributions())\n"
    "except Exception:\n"
    "    pass\n"
    "for name in sys.argv[1:]:\n"
    "    name = name.partition('.')[0]\n"
    "    try:\n"
    "        if importlib.util.find_spec(name) is not None:\n"
    "            names.add(name)\n"
    "    except Exception:\n"
    "        pass\n"
    "for name in names:\n"
    "    if name and all(' ' < c <= '~' for c in name):\n"
    "        print(name)\n";

struct python {
    const char *interpreter; /* borrowed from a template */
    char *text;              /* the keys; NULL: it gave no answer */
    const char **keys;       /* sorted */
    size_t count;
};

struct packages {
    const struct template_set *set;
    struct python *pythons;
    size_t count;
};

/* ---- one Python --------------------------------------------------------- */

/* As package indexes compare names, and without the difference of - . _ that
 * module names know, either. */
static void make_key(char *name)
{
    for (; *name; name++) {
        if (*name >= 'A' && *name <= 'Z')
            *name = (char)(*name | 0x20);
        else if (*name == '-' || *name == '.')
            *name = '_';
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Takes over text: one name a line. */
static int take_names(struct python *py, char *text)
{
    size_t lines = 1;
    char *rest = text;

    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    py->text = text;
    py->keys = calloc(lines, sizeof(*py->keys));
    if (!py->keys)
        return -ENOMEM;
    for (char *name; (name = strsep(&rest, "\n"));) {
        if (!*name)
            continue;
        make_key(name);
        py->keys[py->count++] = name;
    }
    qsort(py->keys, py->count, sizeof(*py->keys), by_text);
    return 0;
}

/* The modules that templates with this Python list, behind words. */
static int build_argv(const struct template_set *set, const char *interpreter,
                      const char ***argv_out)
{
    const char *const words[WORDS] = {interpreter, "-I", "-B", "-c", program};
    const char **argv;
    size_t argc = WORDS, most = WORDS + 1;

    for (size_t i = 0; i < set->count; i++)
        for (char **p = set->items[i]->packages; p && *p; p++)
            most++;
    argv = calloc(most, sizeof(*argv));
    if (!argv)
        return -ENOMEM;
    memcpy(argv, words, sizeof(words));
    for (size_t i = 0; i < set->count; i++) {
        const struct template *t = set->items[i];
        const char *python = template_interpreter(t, LANGUAGE_PYTHON);

        if (!python || strcmp(python, interpreter) != 0)
            continue;
        for (char **p = t->packages; p && *p; p++)
            argv[argc++] = imports_module(*p);
    }
    *argv_out = argv;
    return 0;
}

/* Negative only when memory ends. */
static int ask_python(struct python *py, const struct template_set *set,
                      int64_t deadline_ms, packages_silent_fn *silent,
                      void *ctx)
{
    static const char *const env[] = {NULL};
    AUTO_FREE const char **argv = NULL;
    AUTO_FREE char *text = NULL;
    char why[64];
    int code = 0;
    int rc = build_argv(set, py->interpreter, &argv);

    if (rc < 0)
        return rc;
    rc = spawn_read(argv, env, true, OUTPUT_BYTES_MAX, deadline_ms, &text,
                    &code);
    if (rc == 0 && code == 0)
        return take_names(py, TAKE(text));
    if (rc < 0)
        snprintf(why, sizeof(why), "%s", strerror(-rc));
    else
        snprintf(why, sizeof(why), "it ended with exit code %d", code);
    if (rc != -ENOMEM && silent)
        silent(ctx, py->interpreter, why);
    return rc == -ENOMEM ? rc : 0;
}

static bool has(const struct python *py, const char *name, size_t size)
{
    char key[KEY_MAX];
    const char *sought = key;

    if (size >= sizeof(key))
        return false;
    memcpy(key, name, size);
    key[size] = '\0';
    make_key(key);
    return bsearch(&sought, py->keys, py->count, sizeof(*py->keys), by_text);
}

/* ---- all of them -------------------------------------------------------- */

static const struct python *find_python(const struct packages *p,
                                        const char *interpreter)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->pythons[i].interpreter, interpreter) == 0)
            return &p->pythons[i];
    return NULL;
}

int packages_probe(struct template_set *set, packages_silent_fn *silent,
                   void *ctx)
{
    int64_t deadline = clock_ms() + PACKAGES_PROBE_MS;
    struct packages *p = calloc(1, sizeof(*p));
    int rc = 0;

    if (!p)
        return -ENOMEM;
    p->set = set;
    p->pythons = calloc(set->count + 1, sizeof(*p->pythons));
    if (!p->pythons)
        rc = -ENOMEM;
    for (size_t i = 0; i < set->count && rc == 0; i++) {
        const char *interpreter =
            template_interpreter(set->items[i], LANGUAGE_PYTHON);

        if (!interpreter || find_python(p, interpreter))
            continue;
        p->pythons[p->count].interpreter = interpreter;
        rc = ask_python(&p->pythons[p->count++], set, deadline, silent, ctx);
    }
    if (rc < 0) {
        packages_destroy(p);
        return rc;
    }
    packages_destroy(set->packages);
    set->packages = p;
    return 0;
}

void packages_destroy(struct packages *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->count; i++) {
        free(p->pythons[i].text);
        free(p->pythons[i].keys);
    }
    free(p->pythons);
    free(p);
}

enum packages_answer packages_ask(const struct packages *p,
                                  const char *interpreter, const char *package)
{
    const struct python *py =
        p && interpreter ? find_python(p, interpreter) : NULL;
    const char *module = imports_module(package);

    if (!py || !py->keys)
        return PACKAGE_UNKNOWN;
    return has(py, package, strlen(package)) ||
                   has(py, module, strcspn(module, "."))
               ? PACKAGE_THERE
               : PACKAGE_LACKING;
}

const char *packages_listed(const struct packages *p, const char *module)
{
    for (size_t i = 0; p && i < p->set->count; i++)
        for (char **name = p->set->items[i]->packages; name && *name; name++)
            if (imports_provides(*name, module))
                return *name;
    return NULL;
}

/* Under this or another name for the same module. */
static bool lists(const struct template *t, const char *package)
{
    for (char **name = t->packages; name && *name; name++)
        if (imports_provides(*name, imports_module(package)))
            return true;
    return false;
}

void packages_holders(const struct packages *p, const char *package,
                      struct strbuf *out)
{
    size_t count = 0;

    for (size_t i = 0; p && i < p->set->count; i++) {
        const struct template *t = p->set->items[i];
        const char *python = template_interpreter(t, LANGUAGE_PYTHON);

        if (!lists(t, package) ||
            packages_ask(p, python, package) != PACKAGE_THERE)
            continue;
        if (count++ < PACKAGES_HOLDERS_MAX)
            strbuf_addf(out, "%s%s", count > 1 ? ", " : "", t->id);
    }
    if (count == 0)
        strbuf_adds(out, "none");
    if (count > PACKAGES_HOLDERS_MAX)
        strbuf_addf(out, " and %zu more", count - PACKAGES_HOLDERS_MAX);
}
