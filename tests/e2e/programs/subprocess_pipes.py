import os
import signal
import subprocess
import sys

run = subprocess.run
print(run(["sort", "-n"], input="3\n1\n2\n", capture_output=True, text=True,
          check=True).stdout.split())
print(run("echo $((6*7)) | tr 4 5 && exit 3", shell=True, text=True,
          stdout=subprocess.PIPE))
first = subprocess.Popen(["seq", "1", "1000"], stdout=subprocess.PIPE)
second = subprocess.Popen(["awk", "{ s += $1 } END { print s }"],
                          stdin=first.stdout, stdout=subprocess.PIPE)
first.stdout.close()
print(second.communicate()[0], first.wait())
try:
    run(["sleep", "30"], timeout=0.05)
except subprocess.TimeoutExpired as error:
    print("timed out after", error.cmd)
child = subprocess.Popen(["sleep", "30"], start_new_session=True)
os.killpg(child.pid, signal.SIGTERM)
print(child.wait())
try:
    run(["no-such-program"])
except FileNotFoundError as error:
    print(error)
big = run([sys.executable, "-c", "print('x' * 1000000)"],
          capture_output=True, check=True)
print(len(big.stdout))
print(run(["env"], env={"ONLY": "this"}, capture_output=True).stdout)
print(run(["pwd"], cwd="/tmp", capture_output=True).stdout)
print(os.popen("uname -s").read().strip(), os.system("exit 2") >> 8)
reader, writer = os.pipe()
pid = os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ,
                     file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(reader, 99))
