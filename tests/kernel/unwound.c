// A program that keeps no frame pointers, and whose stacks are known: main calls ten functions in a row, and the last of them
// does one thing until the program is killed, or told to become another one.
//
//   cc -O2 -fomit-frame-pointer -fno-optimize-sibling-calls -o unwound unwound.c

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
static volatile unsigned long turns;

static unsigned long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000UL + now.tv_nsec / 1000000;
}

// Half a second in user space.
__attribute__((noinline)) void spin(void) {
    for (unsigned long end = now_ms() + 500; now_ms() < end;) {
        for (int turn = 0; turn < 10000; turn++) {
            turns += turn;
        }
    }
    turns++;
}

__attribute__((noinline)) void handler(int signal) {
    spin();
    turns += signal;
}

__attribute__((noinline)) void spawn_one(int with_vfork) {
    pid_t child = 0;
    char *command[] = {"true", NULL};
    if (!with_vfork) {
        posix_spawnp(&child, command[0], NULL, NULL, command, environ);
    } else if ((child = vfork()) == 0) {
        execvp(command[0], command);
        _exit(127);
    }
    waitpid(child, NULL, 0);
    turns++;
}

// Until there is a line to read.
__attribute__((noinline)) void work(const char *mode) {
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (poll(&input, 1, 0) == 0) {
        if (strcmp(mode, "spin") == 0) {
            spin();
        } else if (strcmp(mode, "signal") == 0) {
            raise(SIGUSR1);
        } else if (strcmp(mode, "sleep") == 0) {
            usleep(20000);
        } else {
            spawn_one(strcmp(mode, "vfork") == 0);
        }
        turns++;
    }
}

// Each keeps as many bytes on its stack as its name is long, so that all frames are of different sizes.
#define LINK(name, next)                                   \
    __attribute__((noinline)) void name(const char *mode) { \
        char kept[8 * sizeof(#name)];                       \
        memset(kept, (int)turns, sizeof(kept));             \
        next(mode);                                         \
        turns += kept[turns % sizeof(kept)];                \
    }
LINK(link_one, work)
LINK(link_two, link_one)
LINK(link_three, link_two)
LINK(link_four, link_three)
LINK(link_five, link_four)
LINK(link_six, link_five)
LINK(link_seven, link_six)
LINK(link_eight, link_seven)
LINK(link_nine, link_eight)
LINK(link_ten, link_nine)
LINK(after_one, work)
LINK(after_two, after_one)

int main(int count, char **given) {
    signal(SIGUSR1, handler);
    if (count > 2) {
        after_two(given[1]);
        return 0;
    }
    link_ten(given[1]);
    // The line has come: the same program again, in the same process, by other functions.
    char line[16];
    if (read(0, line, sizeof(line)) <= 0) {
        return 0;
    }
    char *again[] = {given[0], given[1], "again", NULL};
    execv("/proc/self/exe", again);
    return 1;
}
