#include "worker/local/lacking.h"

#include <string.h>

#include "common/imports.h"
#include "common/packages.h"
#include "common/strbuf.h"

struct lacking {
    const struct spec *spec;
    struct imports imports;
    struct strbuf hints; /* JSON members */
    size_t warnings;
};

static bool is_lacking(const struct lacking *l, const char *package)
{
    return packages_ask(l->spec->installed, l->spec->interpreter, package) ==
           PACKAGE_LACKING;
}

static void add_hint(struct lacking *l, const char *module, const char *package)
{
    AUTO_STRBUF struct strbuf text = STRBUF_INIT;

    strbuf_addf(&text,
                "%s is not installed for %s (template %s); templates that "
                "have it: ",
                package, l->spec->interpreter, l->spec->template_used);
    packages_holders(l->spec->installed, package, &text);
    if (text.failed)
        return;
    if (l->hints.len > 0)
        strbuf_addc(&l->hints, ',');
    strbuf_add_json(&l->hints, module, strlen(module));
    strbuf_addc(&l->hints, ':');
    strbuf_add_json(&l->hints, text.text, text.len);
}

/* The job's own package that this import needs, else any template's. */
static const char *package_of(const struct lacking *l, const char *module)
{
    const char *package;

    for (size_t i = 0; (package = spec_package(l->spec, i)); i++)
        if (imports_provides(package, module))
            return package;
    return packages_listed(l->spec->installed, module);
}

static void hint_imports(struct lacking *l)
{
    for (size_t i = 0; i < l->imports.count; i++) {
        const char *module = l->imports.names[i];
        const char *package = package_of(l, module);

        if (package && is_lacking(l, package))
            add_hint(l, module, package);
    }
}

static bool is_of_template(const struct spec *spec, const char *package)
{
    for (char **name = spec->packages; name && *name; name++)
        if (strcmp(*name, package) == 0)
            return true;
    return false;
}

static void warn(struct lacking *l, const char *package, struct outcome *o)
{
    const struct spec *spec = l->spec;
    AUTO_STRBUF struct strbuf holders = STRBUF_INIT;

    if (l->warnings++ >= LACKING_WARNINGS_MAX)
        return;
    if (is_of_template(spec, package)) {
        outcome_warn(o,
                     "package %s is listed by template %s but not installed "
                     "for %s",
                     package, spec->template_used, spec->interpreter);
        return;
    }
    packages_holders(spec->installed, package, &holders);
    outcome_warn(o,
                 "requirements.packages: %s is not installed for %s (template "
                 "%s); templates that have it: %s",
                 package, spec->interpreter, spec->template_used,
                 holders.text ? holders.text : "none");
}

/* What we see no import of may still be imported by other means. */
static void warn_of_rest(struct lacking *l, struct outcome *o)
{
    const char *package;

    for (size_t i = 0; (package = spec_package(l->spec, i)); i++) {
        if (imports_package(&l->imports, package) || !is_lacking(l, package))
            continue;
        warn(l, package, o);
        add_hint(l, imports_module(package), package);
    }
    if (l->warnings > LACKING_WARNINGS_MAX)
        outcome_warn(o, "%zu more packages are not installed for %s",
                     l->warnings - LACKING_WARNINGS_MAX, l->spec->interpreter);
}

void lacking_add(const struct job *job, const struct spec *spec,
                 struct input *in, struct outcome *o)
{
    static const char start[] = "{\"missing_hint\":{", end[] = "}}";
    AUTO_STRBUF struct strbuf json = STRBUF_INIT;
    struct lacking l = {.spec = spec};

    if (spec->language != LANGUAGE_PYTHON || !spec->installed)
        return;
    imports_find(job->code, job->code_bytes, &l.imports);
    hint_imports(&l);
    warn_of_rest(&l, o);
    if (l.hints.len > 0 && !l.hints.failed) {
        strbuf_adds(&json, start);
        strbuf_add(&json, l.hints.text, l.hints.len);
        strbuf_adds(&json, end);
    }
    if (json.len > 0 && !json.failed)
        input_add(in, "job", "packages.json", json.text, json.len);
    strbuf_fini(&l.hints);
}
