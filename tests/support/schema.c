#include "tests/support/schema.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct check {
    const cJSON *document;
    char *why;
    size_t size;
};

static const cJSON *get(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static bool no(const struct check *c, const char *what, const cJSON *value)
{
    char *text = cJSON_PrintUnformatted(value);

    snprintf(c->why, c->size, "%s: \"%s\": %.300s", what,
             value && value->string ? value->string : "",
             text ? text : "nothing");
    cJSON_free(text);
    return false;
}

static bool fits(const struct check *c, const cJSON *schema,
                 const cJSON *value);

static bool is_type(const char *type, const cJSON *value)
{
    if (!strcmp(type, "object"))
        return cJSON_IsObject(value);
    if (!strcmp(type, "array"))
        return cJSON_IsArray(value);
    if (!strcmp(type, "string"))
        return cJSON_IsString(value);
    if (!strcmp(type, "boolean"))
        return cJSON_IsBool(value);
    if (!strcmp(type, "null"))
        return cJSON_IsNull(value);
    if (!strcmp(type, "integer"))
        return cJSON_IsNumber(value) &&
               floor(value->valuedouble) == value->valuedouble;
    return !strcmp(type, "number") && cJSON_IsNumber(value);
}

static bool type_fits(const cJSON *type, const cJSON *value)
{
    const cJSON *one;

    if (cJSON_IsString(type))
        return is_type(type->valuestring, value);
    cJSON_ArrayForEach(one, type)
    {
        if (is_type(one->valuestring, value))
            return true;
    }
    return false;
}

static bool enum_fits(const cJSON *list, const cJSON *value)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, list)
    {
        if (cJSON_Compare(one, value, 1))
            return true;
    }
    return false;
}

static bool member_fits(const struct check *c, const cJSON *schema,
                        const cJSON *member)
{
    const cJSON *own = get(get(schema, "properties"), member->string);
    const cJSON *more = get(schema, "additionalProperties");

    if (own)
        return fits(c, own, member);
    if (cJSON_IsFalse(more))
        return no(c, "not in the document", member);
    return !cJSON_IsObject(more) || fits(c, more, member);
}

static bool object_fits(const struct check *c, const cJSON *schema,
                        const cJSON *value)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, get(schema, "required"))
    {
        if (!get(value, one->valuestring))
            return no(c, one->valuestring, value);
    }
    cJSON_ArrayForEach(one, value)
    {
        if (!member_fits(c, schema, one))
            return false;
    }
    return true;
}

static bool any_fits(const struct check *c, const cJSON *list,
                     const cJSON *value)
{
    const cJSON *one;

    cJSON_ArrayForEach(one, list)
    {
        if (fits(c, one, value))
            return true;
    }
    return false;
}

static bool words_known(const struct check *c, const cJSON *schema)
{
    static const char *const known[] = {
        "$ref",        "type",    "enum",   "required",
        "properties",  "items",   "anyOf",  "additionalProperties",
        "description", "minimum", "maximum"};
    const cJSON *one;

    cJSON_ArrayForEach(one, schema)
    {
        bool is_known = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
            is_known = is_known || !strcmp(known[i], one->string);
        if (!is_known)
            return no(c, "a word this check does not know", one);
    }
    return true;
}

static const cJSON *resolve(const struct check *c, const cJSON *schema)
{
    static const char PLACE[] = "#/components/schemas/";
    const cJSON *ref = get(schema, "$ref");

    if (!cJSON_IsString(ref))
        return schema;
    if (strncmp(ref->valuestring, PLACE, sizeof(PLACE) - 1) != 0)
        return NULL;
    return get(get(get(c->document, "components"), "schemas"),
               ref->valuestring + sizeof(PLACE) - 1);
}

static bool fits(const struct check *c, const cJSON *schema, const cJSON *value)
{
    const cJSON *one;

    schema = resolve(c, schema);
    if (!schema)
        return no(c, "a reference to nowhere", value);
    if (!words_known(c, schema))
        return false;
    if ((one = get(schema, "anyOf")))
        return any_fits(c, one, value);
    if ((one = get(schema, "type")) && !type_fits(one, value))
        return no(c, "the type", value);
    if ((one = get(schema, "enum")) && !enum_fits(one, value))
        return no(c, "none of the choices", value);
    if (cJSON_IsObject(value))
        return object_fits(c, schema, value);
    if (cJSON_IsArray(value) && get(schema, "items"))
        cJSON_ArrayForEach(one, value)
        {
            if (!fits(c, get(schema, "items"), one))
                return false;
        }
    return true;
}

bool schema_fits(const cJSON *document, const cJSON *schema, const cJSON *value,
                 char *why, size_t size)
{
    struct check c = {document, why, size};

    why[0] = '\0';
    return fits(&c, schema, value);
}
