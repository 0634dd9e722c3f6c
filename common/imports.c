/* common/imports.c -- what Python code imports, found without running it. */
#include "common/imports.h"

#include <string.h>

/* Packages whose module is called differently. */
static const struct {
    const char *package, *module;
} aliases[] = {
    {"beautifulsoup4", "bs4"},
    {"matplotlib", "mpl_toolkits"},
    {"matplotlib", "pylab"},
    {"opencv", "cv2"},
    {"opencv-python", "cv2"},
    {"opencv-python-headless", "cv2"},
    {"pillow", "PIL"},
    {"pycryptodome", "Crypto"},
    {"python-dateutil", "dateutil"},
    {"pytorch", "torch"},
    {"pyyaml", "yaml"},
    {"scikit-image", "skimage"},
    {"scikit-learn", "sklearn"},
};

#define ALIASES (sizeof aliases / sizeof *aliases)

struct lexer {
    const char *at, *end;
    size_t depth; /* of open brackets */
    bool start;   /* the next word begins a statement */
    struct imports *out;
};

static char peek(const struct lexer *lx, size_t ahead)
{
    return (size_t)(lx->end - lx->at) > ahead ? lx->at[ahead] : '\0';
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '_' || (unsigned char)c >= 0x80;
}

static void skip_line(struct lexer *lx)
{
    const char *newline = memchr(lx->at, '\n', (size_t)(lx->end - lx->at));

    lx->at = newline ? newline : lx->end;
}

static bool is_triple(const struct lexer *lx, char quote)
{
    return peek(lx, 0) == quote && peek(lx, 1) == quote && peek(lx, 2) == quote;
}

/* From the opening quote to behind the closing one, or to the end of a line
 * that lacks it. */
static void skip_string(struct lexer *lx)
{
    char quote = *lx->at;
    bool triple = is_triple(lx, quote);
    size_t quotes = triple ? 3 : 1;

    for (lx->at += quotes; lx->at < lx->end; lx->at++) {
        if (*lx->at == '\n' && !triple)
            return;
        if (triple ? is_triple(lx, quote) : *lx->at == quote) {
            lx->at += quotes;
            return;
        }
        if (*lx->at == '\\' && lx->end - lx->at > 1)
            lx->at++;
    }
}

static bool skip_continuation(struct lexer *lx)
{
    size_t len = peek(lx, 1) == '\n'                          ? 2
                 : peek(lx, 1) == '\r' && peek(lx, 2) == '\n' ? 3
                                                              : 0;

    if (peek(lx, 0) != '\\' || len == 0)
        return false;
    lx->at += len;
    return true;
}

static void skip_blanks(struct lexer *lx)
{
    for (;;) {
        char c = peek(lx, 0);

        if (c == ' ' || c == '\t' || c == '\f')
            lx->at++;
        else if (!skip_continuation(lx))
            return;
    }
}

static size_t take_word(struct lexer *lx, const char **word)
{
    *word = lx->at;
    while (lx->at < lx->end && is_word(*lx->at))
        lx->at++;
    return (size_t)(lx->at - *word);
}

static bool word_is(const char *word, size_t len, const char *what)
{
    return len == strlen(what) && memcmp(word, what, len) == 0;
}

static void note(struct imports *out, const char *name, size_t len)
{
    if (len == 0 || len > IMPORT_NAME_MAX || out->count == IMPORTS_MAX)
        return;
    for (size_t i = 0; i < out->count; i++)
        if (word_is(name, len, out->names[i]))
            return;
    memcpy(out->names[out->count], name, len);
    out->names[out->count++][len] = '\0';
}

/* a.b.c: notes a. A leading dot makes it the code's own module: not noted. */
static void take_module(struct lexer *lx)
{
    const char *word;
    size_t len;
    bool first = true;

    skip_blanks(lx);
    for (;;) {
        len = take_word(lx, &word);
        if (first)
            note(lx->out, word, len);
        first = false;
        skip_blanks(lx);
        if (peek(lx, 0) != '.')
            return;
        lx->at++;
        skip_blanks(lx);
    }
}

/* Behind `import`: a.b as c, d */
static void take_import(struct lexer *lx)
{
    const char *word, *before;
    size_t len;

    do {
        take_module(lx);
        before = lx->at;
        len = take_word(lx, &word);
        if (word_is(word, len, "as")) {
            skip_blanks(lx);
            take_word(lx, &word);
            skip_blanks(lx);
        } else {
            lx->at = before;
        }
    } while (peek(lx, 0) == ',' && lx->at++);
}

static bool is_string_prefix(const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr("rRbBfFuUtT", word[i]))
            return false;
    return len <= 2;
}

static void take_token(struct lexer *lx)
{
    const char *word;
    size_t len = take_word(lx, &word);
    char next = peek(lx, 0);

    if ((next == '"' || next == '\'') && is_string_prefix(word, len))
        skip_string(lx);
    else if (lx->start && word_is(word, len, "import"))
        take_import(lx);
    else if (lx->start && word_is(word, len, "from"))
        take_module(lx);
    lx->start = false;
}

static bool is_one_of(char c, const char *set)
{
    return c && strchr(set, c);
}

static void take_sign(struct lexer *lx)
{
    char c = *lx->at;

    /* A line of a notebook: %matplotlib inline, !pip install … */
    if (lx->start && is_one_of(c, "%!")) {
        skip_line(lx);
        return;
    }
    lx->at++;
    if (is_one_of(c, "([{"))
        lx->depth++;
    else if (is_one_of(c, ")]}") && lx->depth > 0)
        lx->depth--;
    lx->start = lx->depth == 0 && is_one_of(c, ":;\n");
}

void imports_find(const char *code, size_t size, struct imports *out)
{
    struct lexer lx = {
        .at = code, .end = code + size, .start = true, .out = out};

    out->count = 0;
    if (size >= 3 && memcmp(code, "\xef\xbb\xbf", 3) == 0)
        lx.at += 3;
    while (lx.at < lx.end) {
        skip_blanks(&lx);
        if (lx.at == lx.end)
            break;
        if (*lx.at == '#')
            skip_line(&lx);
        else if (*lx.at == '\r')
            lx.at++;
        else if (is_word(*lx.at) || *lx.at == '"' || *lx.at == '\'')
            take_token(&lx);
        else
            take_sign(&lx);
    }
}

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char x = *a == '-' ? '_' : *a, y = *b == '-' ? '_' : *b;

        if (x >= 'A' && x <= 'Z')
            x = (char)(x | 0x20);
        if (y >= 'A' && y <= 'Z')
            y = (char)(y | 0x20);
        if (x != y)
            return false;
    }
    return *a == *b;
}

bool imports_provides(const char *package, const char *module)
{
    if (same_name(package, module))
        return true;
    for (size_t i = 0; i < ALIASES; i++)
        if (same_name(package, aliases[i].package) &&
            strcmp(module, aliases[i].module) == 0)
            return true;
    return false;
}

bool imports_package(const struct imports *imports, const char *package)
{
    for (size_t i = 0; i < imports->count; i++)
        if (imports_provides(package, imports->names[i]))
            return true;
    return false;
}

const char *imports_module(const char *package)
{
    if (same_name(package, "matplotlib")) /* which has all of its names */
        return "matplotlib";
    for (size_t i = 0; i < ALIASES; i++)
        if (same_name(package, aliases[i].package))
            return aliases[i].module;
    return package;
}
