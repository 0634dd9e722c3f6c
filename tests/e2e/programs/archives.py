import bz2
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile

with tempfile.TemporaryDirectory() as folder:
    print(folder.startswith("/tmp/"))
    with open(os.path.join(folder, "a.txt"), "w") as file:
        file.write("line\n" * 1000)
    os.makedirs(os.path.join(folder, "deep/er"))
    os.symlink("../a.txt", os.path.join(folder, "deep/link"))
    os.link(os.path.join(folder, "a.txt"), os.path.join(folder, "same"))
    for name in ("x.tar", "x.tar.gz", "x.tar.bz2", "x.tar.xz"):
        mode = "w:" + name.partition("tar")[2].lstrip(".")
        with tarfile.open(name, mode) as tar:
            tar.add(folder, "top")
        with tarfile.open(name) as tar:
            print(name, len(tar.getnames()))
            tar.extractall("out-" + name)
    shutil.make_archive("made", "zip", folder)
print(os.path.exists(folder))
print(os.readlink("out-x.tar/top/deep/link"),
      os.path.getsize("out-x.tar.xz/top/same"))
with zipfile.ZipFile("made.zip", "a", zipfile.ZIP_DEFLATED) as file:
    file.writestr("über.txt", "ü" * 100)
with zipfile.ZipFile("made.zip") as file:
    print(file.testzip(), sorted(n for n in file.namelist() if "." in n))
for module in (gzip, bz2, lzma):
    with module.open("/tmp/z", "wt") as file:
        file.write("zipped\n" * 9)
    with module.open("/tmp/z", "rt") as file:
        print(module.__name__, len(file.readlines()))
with tempfile.NamedTemporaryFile() as named, tempfile.TemporaryFile() as none:
    named.write(b"x")
    none.write(b"y")
    none.seek(0)
    print(os.path.exists(named.name), none.read())
spool = tempfile.SpooledTemporaryFile(max_size=10)
spool.write(b"z" * 100)
spool.seek(0)
print(len(spool.read()), shutil.disk_usage("/tmp").total > 1 << 20)
shutil.copytree("out-x.tar", "copy", symlinks=True)
shutil.move("copy", "/dev/shm/moved")
print(sorted(os.listdir("/dev/shm/moved/top")))
shutil.rmtree("/dev/shm/moved")
