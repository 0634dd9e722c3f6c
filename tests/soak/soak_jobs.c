#include "tests/soak/soak_jobs.h"

#include <stdlib.h>
#include <string.h>

#define QUICK "quick_script"
#define PY    "python", QUICK
#define JS    "javascript", QUICK
#define SH    "bash", QUICK

/* Read by column. */
/* clang-format off */
const struct soak_kind soak_kinds[] = {
    /* ---- honest ---- */
    {"print", PY, "import sys\nprint('hello', sys.argv[1])", "", "", "ok",
     120, true},
    {"value", PY, "import sys\nint(sys.argv[1] + '7') ** 40", "", "", "ok",
     60, true},
    {"compute", PY,
     "import sys\n"
     "n = 2000 + int(sys.argv[1])\n"
     "sieve = [True] * n\n"
     "for i in range(2, n):\n"
     "    if sieve[i]:\n"
     "        sieve[i * i::i] = [False] * len(sieve[i * i::i])\n"
     "print(sum(sieve) - 2)\n"
     "{i: i * i for i in range(n) if i % 500 == 0}", "", "", "ok", 50, true},
    {"files", PY,
     "import sys\n"
     "text = open('in/data.txt').read()\n"
     "open('out.txt', 'w').write(text.upper() + sys.argv[1])\n"
     "open('more.bin', 'wb').write(bytes(range(256)) * 40)", "",
     ",\"files\":[{\"path\":\"in/data.txt\",\"content\":\"some data\\n\"}],"
     "\"output_files\":[\"*.txt\",\"more.bin\"]", "ok", 50, true},
    {"stdin", PY, "import sys\nprint(len(sys.stdin.read()), sys.argv[1])", "",
     ",\"stdin\":\"line\\nline\\n\"", "ok", 30, true},
    {"stdin-left", PY, "print('not read')", "", ",\"stdin\":\"x\\ny\\n\"", "ok",
     10, true},
    {"bytes", PY,
     "import sys\nsys.stdout.buffer.write(b'\\xff\\x00\\xc3\\xbc\\xe2\\x82')\n"
     "sys.stderr.write('über\\n')", "", "", "ok", 20, true},
    {"display", PY,
     "class Shown:\n"
     "    def _repr_html_(self):\n"
     "        return '<b>shown</b>'\n"
     "    def __repr__(self):\n"
     "        return 'Shown'\n"
     "display(Shown())\ndisplay({'a': [1, 2]})\nShown()", "", "", "ok", 30,
     true},
    {"error", PY, "import sys\ndef f(n):\n    return 1 / (n - n)\n"
     "print('before')\nf(int(sys.argv[1]))", "", "", "user_error", 40, true},
    {"syntax", PY, "print('x'\nfor", "", "", "user_error", 10, true},
    {"exit", PY, "import sys\nprint('leaving')\nsys.exit(int(sys.argv[1]) + 2)",
     "", "", "user_error", 20, true},
    {"missing", PY, "import no_such_module", "", "", "user_error", 10, true},
    {"async", PY,
     "import asyncio\nasync def n(i):\n    await asyncio.sleep(0.001)\n"
     "    return i\nawait asyncio.gather(*(n(i) for i in range(9)))", "", "",
     "ok", 8, true},
    {"pool", PY,
     "import multiprocessing\ndef f(n):\n    return n * n\n"
     "with multiprocessing.Pool(2) as pool:\n    print(pool.map(f, range(9)))",
     "", "", "ok", 8, true},
    {"sqlite", PY,
     "import sqlite3\ndb = sqlite3.connect('x.db')\n"
     "db.execute('create table t(n)')\n"
     "db.executemany('insert into t values (?)', [(i,) for i in range(99)])\n"
     "db.commit()\nprint(db.execute('select sum(n) from t').fetchall())", "",
     "", "ok", 8, true},
    {"pandas", "python", "data_analysis",
     "import pandas as pd\n"
     "t = pd.DataFrame({'k': list('abab'), 'n': range(4)})\n"
     "t.groupby('k').sum().to_csv('sums.csv')\nt", "",
     ",\"output_files\":[\"sums.csv\"]", "ok", 4, true},
    {"plot", "python", "visualization",
     "import matplotlib.pyplot as plt\nplt.figure(figsize=(2, 2))\n"
     "plt.plot([1, 4, 9])\nplt.show()", "", "", "ok", 3, true},
    {"bash", SH, "echo \"hello $1\"; echo err >&2", "", "", "ok", 120, true},
    {"bash-tools", SH,
     "printf '%s\\n' 3 1 2 \"$1\" | sort -n | awk '{ s = s $1 } END { print s }'"
     "\nseq 50 | sed -n '7p;9p' | xargs echo\n(cd /tmp && pwd)", "", "", "ok",
     60, true},
    {"bash-files", SH, "mkdir d; echo \"$1\" >d/a.txt; gzip -nk d/a.txt", "",
     ",\"output_files\":[\"d/*\"]", "ok", 30, true},
    {"bash-exit", SH, "echo out; exit 3", "", "", "user_error", 20, true},
    {"bash-jobs", SH,
     "for i in 1 2 3; do (echo $i >f$i) & done; wait; cat f1 f2 f3", "", "",
     "ok", 20, true},
    {"node", JS, "console.log('hello', process.argv[2]);\n[1, 2, 3].map("
     "(n) => n * n)", "", "", "ok", 20, true},
    {"node-error", JS, "function f() { return null.x; }\nf();", "", "",
     "user_error", 8, true},
    {"streamed", SH, "for i in 1 2 3; do echo $i; sleep 0.01; done", "",
     ",\"stream\":true", "ok", 10, true},
    {"cached", SH, "printf 'a\\0b\\n'; echo $1", "", ",\"cache\":true", "ok", 10,
     false},
    {"delayed", SH, "echo later $1", "", ",\"delay\":0.2", "ok", 10, true},
    {"expired", SH, "echo never", "", ",\"delay\":0.1,\"expires_in\":0.001", "expired", 10,
     true},
    {"rejected", PY, "print(1)", ",\"memory_limit_mb\":100000000", "",
     "rejected", 10, true},
    {"rejected-path", PY, "print(1)", "",
     ",\"files\":[{\"path\":\"../x\",\"content\":\"\"}]", "rejected", 10, true},

    /* ---- hostile ---- */
    {"fork-bomb", PY,
     "import os, time\n"
     "for i in range(1000):\n"
     "    if os.fork() == 0:\n        time.sleep(99)", ",\"pids_limit\":16",
     ",\"timeout\":20", "pids_limit", 12, false},
    {"fork-bomb-on", PY,
     "import os\nwhile True:\n    try:\n        os.fork()\n"
     "    except OSError:\n        pass", ",\"pids_limit\":12",
     ",\"timeout\":0.4", "pids_limit timeout", 6, false},
    {"bash-bomb", SH, "b() { b | b & }; b; sleep 99",
     ",\"pids_limit\":16", ",\"timeout\":0.6", "pids_limit timeout", 8, false},
    {"thread-bomb", PY,
     "import threading, time\nwhile True:\n    threading.Thread(target="
     "time.sleep, args=(99,), daemon=True).start()", ",\"pids_limit\":16",
     ",\"timeout\":20", "pids_limit", 8, false},
    {"memory-bomb", PY,
     "keep = []\nwhile True:\n    keep.append(bytearray(4 << 20))",
     ",\"memory_limit_mb\":48", "", "oom", 12, false},
    {"memory-shm", PY,
     "f = open('/dev/shm/x', 'wb')\nwhile True:\n    f.write(bytes(1 << 20))",
     ",\"memory_limit_mb\":32,\"disk_limit_mb\":64", "", "oom disk_limit", 8,
     false},
    {"flood", SH, "yes 0123456789abcdef", ",\"output_limit_kb\":16",
     ",\"timeout\":20", "output_limit", 12, false},
    {"flood-err", PY,
     "import sys\nwhile True:\n    sys.stderr.write('x' * 5000)",
     ",\"output_limit_kb\":16", ",\"timeout\":20", "output_limit", 8, false},
    {"sleeper-1", PY, "import time\nprint('soon')\ntime.sleep(99)", "",
     ",\"timeout\":0.2", "timeout", 10, false},
    {"sleeper-2", SH, "sleep 99", "", ",\"timeout\":0.5",
     "timeout", 12, true},
    {"sleeper-3", SH, "trap '' TERM INT HUP; sleep 99 & wait", "",
     ",\"timeout\":1", "timeout", 8, true},
    {"spinner", SH, "trap '' TERM; while :; do :; done", "",
     ",\"timeout\":0.3", "timeout", 8, true},
    {"stopped", SH, "kill -STOP $$", "", ",\"timeout\":0.3", "timeout", 6,
     true},
    {"node-spinner", JS, "for (;;);", "", ",\"timeout\":0.5", "timeout", 4,
     true},
    {"suicide", PY, "import os\nprint('x')\nos.kill(os.getpid(), 9)", "", "",
     "signal", 20, true},
    {"killer", SH, "kill -9 -1; kill -9 1; echo still here", "", "", "ok", 15,
     true},
    {"abort", PY, "import os\nos.abort()", "", "", "signal", 12, true},
    {"segfault", PY, "import ctypes\nctypes.string_at(0)", "", "", "signal", 10,
     true},
    {"daemon", PY,
     "import os, time\n"
     "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
     "        time.sleep(99)\n    os._exit(0)\nos.wait()\nprint('left')", "",
     "", "ok", 15, true},
    {"daemon-quiet", SH,
     "setsid sleep 99 >/dev/null 2>&1 <&- & disown; nohup sleep 99 2>&- &\n"
     "echo left", "", "", "ok", 15, true},
    {"litter", SH,
     "ls -A /tmp /dev/shm /home/user | grep litter\n"
     "for d in /tmp /dev/shm /home/user; do\n"
     "head -c 20000 /dev/zero >$d/litter; mkdir $d/litter.d; done; echo done",
     "", "", "ok", 20, true},
    {"forged", PY,
     "import os, struct\n"
     "def send(kind, text):\n"
     "    os.write(3, kind + struct.pack('<I', len(text)) + text)\n"
     "send(b'E', b'{\"name\":\"oom\",\"value\":\"x\",\"traceback\":\"\"}')\n"
     "send(b'R', b'{\"text\":\"forged\",\"verdict\":\"oom\"}')\n"
     "send(b'R', b'not json')\n"
     "send(b'W', b'forged \\xff')\n"
     "print('{\"verdict\":\"oom\"}')", "", "", "ok", 15, true},
    {"forged-junk", PY,
     "import os\nos.write(3, bytes(range(255, 0, -1)) * 100)\nprint('junk')",
     "", "", "ok", 12, true},
    {"forged-exit", SH, "printf 'R\\377\\377\\377\\177{}' >&3; exit 1", "", "",
     "user_error", 12, true},
    {"closed", PY, "import os\nos.closerange(0, 64)", "", "",
     "ok user_error", 12, false},
    {"disk-filler", PY,
     "f = open('x', 'wb', 0)\nwhile True:\n    f.write(bytes(1 << 16))",
     ",\"disk_limit_mb\":4", "", "disk_limit", 12, true},
    {"inode-filler", SH,
     "for ((i = 0; i < 100000; i++)); do : >n$i || exit 1; done 2>/dev/null",
     ",\"disk_limit_mb\":1", ",\"timeout\":20", "disk_limit", 8, true},
    {"links", SH,
     "ln -s /etc/passwd out.txt; ln -s / d; mkfifo pipe.txt; ln -s loop loop; "
     "echo x >'new\nline.txt'; echo y >$'bad\\xff.txt'", "",
     ",\"output_files\":[\"*.txt\",\"d/etc/*\",\"loop\",\"d/etc/hostname\"]",
     "ok", 15, true},
    {"deep", PY,
     "import os\nfor i in range(100):\n    os.mkdir('d')\n    os.chdir('d')\n"
     "    open('f.txt', 'w').close()", "",
     ",\"output_files\":[\"**/*.txt\"]", "ok", 8, true},
    {"many", SH, "for ((i = 0; i < 300; i++)); do echo $i >$i.txt; done", "",
     ",\"output_files\":[\"*.txt\"]", "ok", 4, true},
    {"escape", PY,
     "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
     "print(libc.unshare(0x10000000), libc.mount(b'x', b'/tmp', b'tmpfs', 0, "
     "0), libc.ptrace(16, 1, 0, 0), libc.setns(3, 0))\n"
     "print(os.path.exists('/root'), os.path.exists('/var/run/redis'))", "", "",
     "ok", 8, true},
    {"recursion", PY, "def f():\n    return f()\nf()", "", "", "user_error", 8,
     true},
    {"huge-error", PY, "raise ValueError('x' * 1000000)", "", "", "user_error",
     8, true},
};
/* clang-format on */

const size_t soak_kinds_count = sizeof(soak_kinds) / sizeof(*soak_kinds);

static void add_text(struct strbuf *out, const char *key, const char *text)
{
    strbuf_addf(out, ",\"%s\":", key);
    strbuf_add_json(out, text, strlen(text));
}

void soak_job(const struct soak_kind *kind, int variant, const char *id,
              struct strbuf *out)
{
    strbuf_addf(out, "{\"id\":\"%s\",\"args\":[\"%d\"]", id, variant);
    add_text(out, "code", kind->code);
    add_text(out, "language", kind->language);
    add_text(out, "template", kind->template_id);
    strbuf_addf(out, ",\"requirements\":{\"cpu_limit_percent\":100%s}%s}",
                kind->requirements, kind->rest);
}

size_t soak_draw(unsigned *seed)
{
    int sum = 0, at;
    size_t i;

    for (i = 0; i < soak_kinds_count; i++)
        sum += soak_kinds[i].weight;
    at = rand_r(seed) % sum;
    for (i = 0; at >= soak_kinds[i].weight; i++)
        at -= soak_kinds[i].weight;
    return i;
}

bool soak_verdict_fits(const struct soak_kind *kind, const char *verdict)
{
    size_t len = strlen(verdict);
    const char *at = kind->verdicts;

    while ((at = strstr(at, verdict))) {
        if ((at == kind->verdicts || at[-1] == ' ') &&
            (at[len] == ' ' || at[len] == '\0'))
            return len > 0;
        at++;
    }
    return false;
}
