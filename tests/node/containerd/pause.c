/* All programs of the test's pods: without an argument it is /pause, with one it ends after so many milliseconds. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void end(int signal) { (void)signal; _exit(0); }

int main(int argc, char **argv) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    if (argc > 1) {
        usleep(1000u * (unsigned)atoi(argv[1]));
        return 0;
    }
    for (;;)
        pause();
}
