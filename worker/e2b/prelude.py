# Goes before the code of a Python job on E2B, in the same cell, and runs it as
# a cell of its own: so its lines keep their numbers, and nothing of the job is
# pasted into source. `job` has env, args, stdin, and the limits in bytes.
async def capibox_run(code, job):
    import builtins, io, os, resource, sys, warnings
    # What is global here is the code's, too: it may give these names away.
    exit_error, integer, is_a, new_type = SystemExit, int, isinstance, type

    def own_data():
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmData"):
                    return int(line.split()[1]) << 10
        return 0

    def own_tasks():
        tasks = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.stat("/proc/" + pid).st_uid == os.getuid():
                    tasks += len(os.listdir("/proc/" + pid + "/task"))
            except OSError:
                pass  # it has ended
        return tasks

    def limit(what, amount):
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            amount = min(amount, hard)
        resource.setrlimit(what, (amount, amount))

    limit(resource.RLIMIT_DATA, own_data() + job["memory"])
    limit(resource.RLIMIT_NPROC, own_tasks() + job["pids"])
    limit(resource.RLIMIT_FSIZE, job["disk"])
    os.environ.update(job["env"])
    sys.argv = ["main.py"] + job["args"]
    sys.stdin = io.TextIOWrapper(io.BytesIO(job["stdin"].encode()))

    def read_line(prompt=""):
        builtins.print(prompt, end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            raise builtins.EOFError("EOF when reading a line")
        return line.rstrip("\n")

    builtins.input = read_line
    # IPython's advice to people at a keyboard, after sys.exit().
    warnings.filterwarnings("ignore", message="To exit: use 'exit'")
    shell = get_ipython()
    # IPython would make a name of the code's hash, in warnings and errors.
    shell.compile.get_code_name = lambda *of: "main.py"
    for name in [n for n in shell.user_ns if n.startswith("_capibox")]:
        del shell.user_ns[name]
    shell.user_ns.pop("capibox_run", None)
    show = shell._showtraceback

    def exit_code(code):
        if is_a(code, integer):
            return code & 0xff if -2 ** 63 <= code < 2 ** 63 else 255
        builtins.print(code, file=sys.stderr)
        return 1

    def show_unless_exit(kind, error, lines):
        # Of sys.exit(code) IPython tells the text of the code alone: its name
        # then has the word of prelude.h, the process' exit code, and the name.
        if is_a(error, exit_error):
            code = error.code
            if code is None or is_a(code, integer) and code == 0:
                return
            kind = new_type("CapiboxExit %d %s" % (
                exit_code(code), new_type(error).__name__), (), {})
        show(kind, error, lines)

    shell._showtraceback = show_unless_exit
    trouble = None
    try:
        cell = shell.transform_cell(code)
    except Exception:
        cell, trouble = code, sys.exc_info()
    await shell.run_cell_async(
        code, transformed_cell=cell, preprocessing_exc_tuple=trouble)
