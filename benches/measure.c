/*
 * What one run of a command costs: benches/run's clock.
 *
 *   measure COMMAND [ARGUMENT...]    prints: WALL-NS CPU-US MAXRSS-KB STATUS
 *
 * Static, and it starts the command by vfork, so that its own share of the wall time is as small as that can be. CPU is user
 * and system time of the command and of every process that it waited for (getrusage(2), RUSAGE_CHILDREN), and
 * MAXRSS the largest of these processes, which cannot be smaller than this program's own: the kernel carries the
 * figure over an exec.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

int main(int argc, char **argv) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int result = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (argc < 2 || null < 0 || result < 0) return 2;
    for (int fd = 0; fd < 3; fd++) {
        if (dup2(null, fd) < 0) return 2;
    }
    int status;
    struct rusage usage;
    long long start = nanoseconds();
    pid_t child = vfork();
    if (child == 0) {
        execvp(argv[1], argv + 1);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return 2;
    long long wall = nanoseconds() - start;
    getrusage(RUSAGE_CHILDREN, &usage);
    dprintf(result, "%lld %lld %ld %d\n", wall, microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
            usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}
