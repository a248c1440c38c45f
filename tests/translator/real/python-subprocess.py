#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0 OR MIT
# needs: /usr/bin/python3
import os
import signal
import subprocess
import sys

print(subprocess.run(["tr", "a-z", "A-Z"], input=b"through a pipe", capture_output=True).stdout)
print(subprocess.check_output("echo $0; exit 0", shell=True, text=True))
print(subprocess.run("kill -9 $$", shell=True).returncode, subprocess.call(["false"]))
p = [subprocess.Popen([sys.executable, "-S", "-c", f"print({i} ** {i})"], stdout=subprocess.PIPE)
     for i in range(4)]
print([q.communicate()[0] for q in p])
try:
    subprocess.run(["sleep", "10"], timeout=0.3)
except subprocess.TimeoutExpired:
    print("timeout")
try:
    subprocess.run(["/nonexistent/program"])
except FileNotFoundError as e:
    print(e)
print(subprocess.run(["true"], close_fds=True, start_new_session=True, cwd="/", env={}).returncode)
p = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: os.umask(0))
print(p.communicate(b"x" * 300000)[0] == b"x" * 300000, p.returncode)
pid = os.fork()
if not pid:
    os._exit(17)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
r, w = os.pipe()
print(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ,
      file_actions=[(os.POSIX_SPAWN_DUP2, w, 1)]), 0)[1]), os.read(r, 100))
signal.signal(signal.SIGCHLD, lambda *a: print("SIGCHLD"))
os.system("true")
sys.stdout.flush()
os.execv("/bin/echo", ["echo", "the last"])
