/* Preloaded into redis-server: notes after each fdatasync and fsync how much of the file is on disk,
   in <file>.synced. A power loss keeps that much and no more; SIGKILL alone would keep everything. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int synced(const char *name, int fd) {
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat file;
    /* What is written while it syncs may not be covered. */
    int known = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
    int result = sync(fd);
    if (result != 0 || !known) return result;
    char link[64], path[PATH_MAX + 8], size[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX);
    if (length <= 4) return result;
    path[length] = 0;
    if (strcmp(path + length - 4, ".aof") != 0) return result;
    strcpy(path + length, ".synced");
    int note = open(path, O_WRONLY | O_CREAT, 0600);
    if (note < 0) return result;
    int digits = snprintf(size, sizeof size, "%020lld", (long long)file.st_size);
    if (pwrite(note, size, digits, 0) != digits) unlink(path);
    close(note);
    return result;
}

int fdatasync(int fd) { return synced("fdatasync", fd); }
int fsync(int fd) { return synced("fsync", fd); }
