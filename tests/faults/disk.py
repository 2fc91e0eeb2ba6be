"""A slow disk, which loses unsynced data in a power cut.

It is a library that the server loads first. Its ``fdatasync`` takes long, as that of a full or shared
disk does, and notes how much of the file is synced. The kernel has what was written all the same:
when only the server is killed, what it had written is not lost.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.harness.store_servers import Missing

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void hold_up(void) {
    const char *path = getenv("SLOW_DISK");
    FILE *file = path ? fopen(path, "r") : NULL;
    double seconds = 0;
    if (!file)
        return;
    if (fscanf(file, "%lf", &seconds) != 1)
        seconds = 0;
    fclose(file);
    struct timespec pause = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&pause, &pause) != 0)
        ;
}

static void note(int fd, long long size) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    FILE *file = length < 0 ? NULL : fopen(getenv("SYNCED"), "a");
    if (!file)
        return;
    path[length] = 0;
    fprintf(file, "%lld %s\n", size, path);
    fclose(file);
}

static int sync_by(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    int is_known = fstat(fd, &before) == 0;
    hold_up();
    int result = real(fd);
    if (result == 0 && is_known)
        note(fd, (long long)before.st_size);
    return result;
}

int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
"""


class SlowDisk:
    """The compiled library, and the file with the delay of the disk."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise Missing("there is no C compiler on the PATH: cc")
        self._seconds = folder / "slow-disk"
        self._synced = folder / "synced"
        library = folder / "slow-disk.so"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", str(library), "-x", "c", "-", "-ldl"],
            input=SOURCE,
            text=True,
            check=True,
        )
        self.environ = {
            "LD_PRELOAD": str(library),
            "SLOW_DISK": str(self._seconds),
            "SYNCED": str(self._synced),
        }
        """The environment of a server that uses this disk."""

    def slow_down(self, seconds: float) -> None:
        """Add *seconds* to each sync from now on."""
        draft = self._seconds.with_suffix(".new")
        draft.write_text(str(seconds))
        draft.rename(self._seconds)

    def recover(self) -> None:
        """Remove the delay."""
        self._seconds.unlink(missing_ok=True)

    def cut_power(self) -> int:
        """Remove unsynced data from each append-only file; return the number of bytes."""
        lines = [line.split(" ", 1) for line in self._synced.read_text().splitlines()]
        sizes = {path: int(size) for size, path in lines if path.endswith(".incr.aof")}
        forgotten = sum(os.stat(path).st_size - size for path, size in sizes.items())
        for path, size in sizes.items():
            os.truncate(path, size)
        return forgotten
