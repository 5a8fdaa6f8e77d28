# What unwind.elf is made of: functions that are never run, one for each way in which a frame is described. Each takes 16 bytes.
#
#   gcc -nostdlib -static -no-pie -Wl,--build-id=none,-z,noseparate-code,-N -o unwind.elf unwind.s && strip unwind.elf

        .text
        .globl _start
_start: .cfi_startproc                  # 0: nobody calls it
        .cfi_undefined rip
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 1: from the stack pointer, which moves
        push %rbp
        .cfi_adjust_cfa_offset 8
        .cfi_offset rbp, -16
        sub $0x20, %rsp
        .cfi_adjust_cfa_offset 0x20
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 2: from the frame pointer
        push %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset rbp, -16
        mov %rsp, %rbp
        .cfi_def_cfa_register rbp
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 3: saved at the frame pointer: the stack is aligned anew
        .cfi_escape 0x10, 6, 2, 0x76, 0
        .cfi_escape 0x0f, 3, 0x76, 0x78, 6
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 4: a stub
        .cfi_escape 0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22
        .skip 15, 0x90
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 5: a signal's frame
        .cfi_signal_frame
        .cfi_escape 0x0f, 4, 0x77, 0xa0, 1, 6
        .cfi_escape 0x10, 6, 3, 0x77, 0xf8, 0
        .cfi_escape 0x10, 7, 3, 0x77, 0xa0, 1
        .cfi_escape 0x10, 16, 3, 0x77, 0xa8, 1
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 6: ends where it calls the kernel
        nop
        .cfi_endproc
        syscall
        nop
        .balign 16
        .cfi_startproc                  # 7: the return address is in a register
        pop %rdi
        .cfi_adjust_cfa_offset -8
        .cfi_register rip, rdi
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 8: from a register that is not kept
        .cfi_def_cfa rcx, 16
        nop
        .cfi_endproc
        .balign 16
        .cfi_startproc                  # 9: the frame pointer is in a register
        .cfi_register rbp, rcx
        nop
        .cfi_endproc
        .balign 16
        nop                             # 10: nothing is said of it
