// void *memcpy(void *to, const void *from, size_t bytes): in place of the compiler's own, which is for any processor and copies a byte at
// a time what it cannot copy by aligned doublewords. Processors since POWER8 load and store doublewords at any address. Nobody copies to or
// from devices with it.
    .globl memcpy
    .type memcpy, @function
    .balign 32
memcpy:
    srdi. %r0, %r5, 6
    mr %r9, %r3
    mtcrf 0x02, %r5                 // by bits of the length: 32 and 16 in CR6,
    mtcrf 0x01, %r5                 // 8 to 1 in CR7
    beq 2f
    mtctr %r0
1:  ld %r6, 0(%r4)
    ld %r7, 8(%r4)
    ld %r8, 16(%r4)
    ld %r10, 24(%r4)
    ld %r11, 32(%r4)
    ld %r12, 40(%r4)
    ld %r0, 48(%r4)
    ld %r5, 56(%r4)
    addi %r4, %r4, 64
    std %r6, 0(%r9)
    std %r7, 8(%r9)
    std %r8, 16(%r9)
    std %r10, 24(%r9)
    std %r11, 32(%r9)
    std %r12, 40(%r9)
    std %r0, 48(%r9)
    std %r5, 56(%r9)
    addi %r9, %r9, 64
    bdnz 1b
2:  bf 26, 3f
    ld %r6, 0(%r4)
    ld %r7, 8(%r4)
    ld %r8, 16(%r4)
    ld %r10, 24(%r4)
    addi %r4, %r4, 32
    std %r6, 0(%r9)
    std %r7, 8(%r9)
    std %r8, 16(%r9)
    std %r10, 24(%r9)
    addi %r9, %r9, 32
3:  bf 27, 4f
    ld %r6, 0(%r4)
    ld %r7, 8(%r4)
    addi %r4, %r4, 16
    std %r6, 0(%r9)
    std %r7, 8(%r9)
    addi %r9, %r9, 16
4:  bf 28, 5f
    ld %r6, 0(%r4)
    addi %r4, %r4, 8
    std %r6, 0(%r9)
    addi %r9, %r9, 8
5:  bf 29, 6f
    lwz %r6, 0(%r4)
    addi %r4, %r4, 4
    stw %r6, 0(%r9)
    addi %r9, %r9, 4
6:  bf 30, 7f
    lhz %r6, 0(%r4)
    addi %r4, %r4, 2
    sth %r6, 0(%r9)
    addi %r9, %r9, 2
7:  bflr 31
    lbz %r6, 0(%r4)
    stb %r6, 0(%r9)
    blr
    .size memcpy, .-memcpy
