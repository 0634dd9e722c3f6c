#include "worker/e2b/probe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "worker/e2b/guest.h"

#define SKEW_S_NOTE     5 /* beyond, times of E2B and ours are hard to compare */
#define SKEW_S_BAD      300 /* beyond, certificates are refused sooner or later */
#define NO_SUCH_GUEST   "icapiboxdoctorasksonly"
#define GUEST_MS        15000
#define TEMPLATES_ASKED 32 /* different ones */

struct probe {
    const struct settings *settings;
    struct strbuf checks; /* JSON objects */
    int bad;
};

/* fix: "" if there is nothing to do. */
__attribute__((format(printf, 6, 7))) static void
check(struct probe *p, bool ok, bool needed, const char *what, const char *fix,
      const char *fmt, ...)
{
    char detail[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(detail, sizeof(detail), fmt, args);
    va_end(args);
    p->bad += !ok && needed;
    if (!p->settings->json) {
        printf("%-5s %-10s %s\n",
               ok       ? "ok"
               : needed ? "BAD"
                        : "note",
               what, detail);
        if (!ok && fix[0])
            printf("%17sfix: %s\n", "", fix);
        return;
    }
    if (p->checks.len > 0)
        strbuf_addc(&p->checks, ',');
    json_add_lit(&p->checks, "{\"ok\":");
    json_add_bool(&p->checks, ok);
    json_add_lit(&p->checks, ",\"needed\":");
    json_add_bool(&p->checks, needed);
    json_add_lit(&p->checks, ",\"what\":");
    json_add_text(&p->checks, what);
    json_add_lit(&p->checks, ",\"detail\":");
    strbuf_add_json(&p->checks, detail, strlen(detail));
    json_add_lit(&p->checks, ",\"fix\":");
    strbuf_add_json(&p->checks, ok ? "" : fix, ok ? 0 : strlen(fix));
    strbuf_addc(&p->checks, '}');
}

/* ---- one check each ---------------------------------------------------- */

static const char *fix_of(enum fault fault)
{
    switch (fault) {
    case FAULT_KEY:
        return "give a valid key in E2B_API_KEY (e2b.dev, Keys)";
    case FAULT_FORBIDDEN:
        return "the team may not do this: look at its state on e2b.dev";
    case FAULT_RATE:
    case FAULT_ACCOUNT:
        return "wait, or ask E2B for higher limits";
    default:
        return "see whether this host reaches E2B_API_URL or "
               "https://api.E2B_DOMAIN, and CAPIBOX_E2B_CA for a private "
               "certificate";
    }
}

static void check_clock(struct probe *p, int64_t date_s)
{
    double skew;

    if (date_s == 0) {
        check(p, false, false, "clock",
              "compare it with another host's: certificates need it right",
              "E2B's answer has no Date to compare it with");
        return;
    }
    skew = clock_unix_s() - (double)date_s;
    /* Date has whole seconds, and the answer took a while. */
    check(p, skew > -SKEW_S_NOTE && skew < SKEW_S_NOTE,
          skew < -SKEW_S_BAD || skew > SKEW_S_BAD, "clock",
          "set the clock (timedatectl set-ntp true)", "%.0f s off E2B's", skew);
}

static bool check_api(struct probe *p, const struct control *c)
{
    char text[CONTROL_TEXT_MAX];
    int64_t date_s = 0;
    enum fault fault = control_check(c, &date_s, text);

    if (fault == FAULT_NONE)
        check(p, true, true, "e2b api", "", "%s takes the key", c->base);
    else
        check(p, false, true, "e2b api", fix_of(fault), "%s: %s", c->base,
              text);
    check_clock(p, date_s);
    return fault == FAULT_NONE;
}

/* A sandbox that does not exist answers 502 through a proxy that does. */
static void check_guests(struct probe *p, const struct control *c)
{
    char url[CONTROL_URL_MAX + CONTROL_DOMAIN_MAX];
    struct http_call call = {
        .method = HTTP_GET,
        .url = url,
        .headers = {"Accept: application/json",
                    "E2b-Sandbox-Id: " NO_SUCH_GUEST,
                    "E2b-Sandbox-Port: 49999"},
        .deadline_ms = clock_ms() + GUEST_MS,
    };
    char text[CONTROL_TEXT_MAX];
    struct guest_route route;

    guest_route_init(&route, p->settings);
    if (route.fixed[0])
        snprintf(url, sizeof(url), "%.*s/health", route.fixed_len, route.fixed);
    else if (!route.automatic && atomic_load(&route.shared))
        snprintf(url, sizeof(url), "https://sandbox.%s/health", c->domain);
    else
        snprintf(url, sizeof(url), "https://49999-%s.%s/health", NO_SUCH_GUEST,
                 c->domain);
    http_do(c->http, &call);
    fault_text(&call, text, sizeof(text));
    if (call.status == 502 && fault_of(&call, PLANE_SANDBOX) == FAULT_GONE)
        check(p, true, true, "sandboxes", "", "their hosts answer");
    else if (call.trouble == HTTP_FINE)
        check(p, false, true, "sandboxes",
              "see whether sandboxes of E2B_DOMAIN are reached that way, and "
              "CAPIBOX_E2B_SHARED",
              "%s answers, but not as E2B's proxy does: %s", url, text);
    else
        check(p, false, true, "sandboxes",
              "names like 49999-ID.E2B_DOMAIN must lead to E2B; or set "
              "E2B_SANDBOX_URL",
              "%s", text);
    http_call_fini(&call);
}

static bool asked_before(const struct template_set *set, size_t tpl, size_t v)
{
    const char *id = set->items[tpl]->variants[v].template_id;

    for (size_t i = 0; i <= tpl; i++)
        for (size_t k = 0; k < set->items[i]->nvariants; k++) {
            if (i == tpl && k >= v)
                return false;
            if (strcmp(set->items[i]->variants[k].template_id, id) == 0)
                return true;
        }
    return false;
}

static bool is_of_default(const struct template_set *set, const char *id)
{
    const struct template *tpl = template_find(set, "default");

    for (size_t i = 0; tpl && i < tpl->nvariants; i++)
        if (strcmp(tpl->variants[i].template_id, id) == 0)
            return true;
    return false;
}

static void check_template(struct probe *p, const struct control *c,
                           const struct template *tpl,
                           const struct template_variant *v, bool of_default)
{
    char text[CONTROL_TEXT_MAX];
    enum fault fault = control_find_template(c, v->template_id, text);

    if (fault == FAULT_NONE)
        check(p, true, true, "e2b image", "", "%s is there", v->template_id);
    else if (fault == FAULT_FORBIDDEN)
        check(p, true, true, "e2b image", "",
              "%s is there, not of this team: whether it is public, the first "
              "job will tell",
              v->template_id);
    else
        check(p, false, of_default && fault != FAULT_REFUSED, "e2b image",
              "build it (templates/e2b/build.py), or take it out of "
              "e2b.variants",
              "template %s: %s: %s", tpl->id, v->template_id,
              fault == FAULT_GONE ? "E2B knows no such template" : text);
}

static void check_templates(struct probe *p, const struct control *c,
                            const struct template_set *set)
{
    int asked = 0;

    for (size_t i = 0; i < set->count; i++)
        for (size_t k = 0; k < set->items[i]->nvariants; k++)
            if (asked < TEMPLATES_ASKED && !asked_before(set, i, k)) {
                asked++;
                check_template(
                    p, c, set->items[i], &set->items[i]->variants[k],
                    is_of_default(set, set->items[i]->variants[k].template_id));
            }
}

/* ---- all of them ------------------------------------------------------- */

static void ask_e2b(struct probe *p, const struct template_set *set)
{
    struct http *http = NULL;
    struct control control;
    int rc = http_open(p->settings->e2b_ca, HTTP_CONNECTIONS_MORE, &http);

    if (rc == 0)
        rc = control_init(&control, p->settings, http);
    if (rc < 0) {
        check(p, false, true, "e2b", "", "cannot ask: %s", strerror(-rc));
    } else if (check_api(p, &control)) {
        check_guests(p, &control);
        check_templates(p, &control, set);
    }
    http_close(http);
}

int e2b_probe(const struct settings *settings, const struct template_set *set)
{
    struct probe p = {.settings = settings};
    struct complaint why = {.field = ""};
    const char *meaning;

    if (settings_check_e2b(settings, &why) < 0)
        check(&p, false, true, "settings", "", "%s: %s", why.field, why.text);
    else
        ask_e2b(&p, set);
    meaning = p.bad ? "jobs would not run on E2B from here"
                    : "jobs would run in E2B's microVMs";
    if (settings->json)
        printf("{\"backend\":\"e2b\",\"rung\":\"e2b\",\"meaning\":\"%s\","
               "\"checks\":[%s]}\n",
               meaning, p.checks.text ? p.checks.text : "");
    else
        printf("%s\n", meaning);
    strbuf_fini(&p.checks);
    return p.bad ? 1 : 0;
}
