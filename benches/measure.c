/*
 * measure COMMAND [ARGUMENT...]    prints, on a last line, what the command costs: WALL-NS CPU-US MAXRSS-KB STATUS
 *
 * CPU and MAXRSS are of the command and of every process that it waited for. MAXRSS cannot be smaller than this program's
 * own, as the kernel carries the figure over an exec. So it is static, and starts the command by vfork.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    struct timespec start, end;
    struct rusage usage;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = argc < 2 ? -1 : vfork();
    if (child == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child) return 2;
    clock_gettime(CLOCK_MONOTONIC, &end);
    long wall = (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec;
    long seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec;
    long busy = seconds * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    printf("\n%ld %ld %ld %d\n", wall, busy, usage.ru_maxrss, status);
    return 0;
}
