/* All programs of the test's pods: it says when it began (CLOCK_MONOTONIC, nanoseconds). Without an argument it stays, as
 * /pause does, with one it ends after so many milliseconds and says when that was. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }

static void say_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    dprintf(1, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
}

int main(int argc, char **argv) {
    say_now();
    signal(SIGINT, end);
    signal(SIGTERM, end);
    if (argc > 1) {
        usleep(1000u * (unsigned)atoi(argv[1]));
        say_now();
        return 0;
    }
    for (;;)
        pause();
}
