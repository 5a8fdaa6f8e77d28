// What small.elf is made of: functions that are called, inlined and nested, in a program that is never run.
//
//   gcc -O2 -gdwarf-5 -fno-asynchronous-unwind-tables -ffreestanding -nostdlib -static -no-pie \
//       -fdebug-prefix-map=$PWD=/src -Wl,--build-id=0x5107f0d0,-z,noseparate-code -o small.elf small.c
//   objcopy --only-keep-debug small.elf small.debug && strip -o small.stripped small.elf
//   objcopy --add-gnu-debuglink=small.debug small.stripped

volatile int sink;

static inline int twice(int number) {
    return number * 2 + sink;
}

static inline int nested(int number) {
    sink = number;
    return twice(number) + 1;
}

__attribute__((noinline)) int outer(int number) {
    sink += 3;
    return nested(number) - sink;
}

__attribute__((noinline)) static void loop_forever(void) {
    for (;;) {
        sink = outer(sink);
    }
}

void _start(void) {
    loop_forever();
}
