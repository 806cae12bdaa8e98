// From the firmware to Rust, and from Rust to the firmware: the two places where big-endian code runs.

// In big endian, with translation off: go on in little endian right after the block. Clobbers r10, r11, LR. The
// words are big-endian instructions, written down for a little-endian assembler.
    .macro BECOME_LITTLE_ENDIAN
    .long 0xa600607d               // mfmsr r11
    .long 0x05009f42               // bcl 20,31,.+4
    .long 0xa602487d               // mflr r10
    .long 0x18004a39               // addi r10,r10,24
    .long 0xa6035a7d               // mtsrr0 r10
    .long 0x01006b69               // xori r11,r11,1 (MSR[LE])
    .long 0xa6037b7d               // mtsrr1 r11
    .long 0x2400004c               // rfid
    .endm

// The firmware enters at the image's first byte, wherever it put the file: 64-bit, translation off, r3 = device
// tree, r8 = OPAL base, r9 = OPAL entry; big endian, but little endian would do too. The code turns to little
// endian, copies the image to real address 0, clears .bss and calls `boot` on the boot stack, at the linked address.

    .section .head, "ax"
    .globl _start
_start:
    tdi 0, 0, 0x48                 // read big endian: b .+8
    b 1f
    BECOME_LITTLE_ENDIAN
1:  bcl 20, 31, 2f
2:  mflr %r31
    addi %r31, %r31, _start - 2b     // where the file is
    mr %r30, %r3
    mr %r28, %r8
    mr %r29, %r9
    lis %r27, 0xc000
    sldi %r27, %r27, 32              // where it is linked

    // Length of what the file has, in doublewords; the linker script aligns it.
    lis %r4, __load_size@h
    ori %r4, %r4, __load_size@l
    srdi %r4, %r4, 3
    mtctr %r4
    addi %r5, %r31, -8
    addi %r6, %r27, -8
3:  ldu %r7, 8(%r5)
    stdu %r7, 8(%r6)
    bdnz 3b
    // The copy's instructions must be seen by the fetches that follow.
    lis %r4, __load_size@h
    ori %r4, %r4, __load_size@l
    srdi %r4, %r4, 7
    addi %r4, %r4, 1
    mtctr %r4
    mr %r5, %r27
4:  dcbst 0, %r5
    sync
    icbi 0, %r5
    addi %r5, %r5, 128
    bdnz 4b
    sync
    isync
    lis %r4, start_copied@high
    ori %r4, %r4, start_copied@l
    or %r4, %r4, %r27
    mtctr %r4
    bctr

// At the linked address, translation off.
    .section .text.start, "ax"
start_copied:
    lis %r2, .TOC.@high
    ori %r2, %r2, .TOC.@l
    or %r2, %r2, %r27
    addis %r4, %r2, __load_end@toc@ha
    addi %r4, %r4, __load_end@toc@l
    addis %r5, %r2, __bss_end@toc@ha
    addi %r5, %r5, __bss_end@toc@l
    li %r0, 0
1:  std %r0, 0(%r4)
    addi %r4, %r4, 8
    cmpld %r4, %r5
    blt 1b
    addis %r1, %r2, __stack_top@toc@ha
    addi %r1, %r1, __stack_top@toc@l
    addi %r1, %r1, -112
    std %r0, 0(%r1)
    mr %r3, %r30
    mr %r4, %r28
    mr %r5, %r29
    mr %r6, %r31
    bl boot
    nop
    b .

// Where the other CPUs start, one at a time, like the first one but with the image in place: STARTING is the PerCpu of the one
// that is being started. It calls `secondary` on its own stack, at the linked address, translation off.
    .section .text.realmode, "ax"
    .globl secondary_start
    .balign 32
secondary_start:
    BECOME_LITTLE_ENDIAN
    lis %r2, .TOC.@high
    ori %r2, %r2, .TOC.@l
    lis %r3, 0xc000
    sldi %r3, %r3, 32
    or %r2, %r2, %r3
    addis %r4, %r2, STARTING@toc@ha
    addi %r4, %r4, STARTING@toc@l
    ld %r3, 0(%r4)
    mtspr {HSPRG0}, %r3
    mr %r13, %r3
    ld %r1, {PC_HOST_R1}(%r3)
    li %r0, 0
    std %r0, 0(%r1)
    addis %r12, %r2, secondary@toc@ha
    addi %r12, %r12, secondary@toc@l
    mtctr %r12
    bctrl
    b .

// extern "C" fn opal_call(token, a0, …, a6) -> i64
//
// Works in both modes; comes back in the one it was called in. OPAL keeps r1, r13–r31; its own stack.
    .section .text.realmode, "ax"
    .globl opal_call
    .type opal_call, @function
    .balign 32
opal_call:
    addis %r2, %r12, .TOC.-opal_call@ha
    addi %r2, %r2, .TOC.-opal_call@l
    .localentry opal_call, .-opal_call
    mflr %r0
    std %r0, 16(%r1)
    mfcr %r0
    stw %r0, 8(%r1)
    stdu %r1, -64(%r1)
    std %r2, 24(%r1)
    mfmsr %r12
    std %r12, 40(%r1)
    mr %r0, %r3
    mr %r3, %r4
    mr %r4, %r5
    mr %r5, %r6
    mr %r6, %r7
    mr %r7, %r8
    mr %r8, %r9
    mr %r9, %r10
    addis %r11, %r2, 1f@toc@ha
    addi %r11, %r11, 1f@toc@l
    mtlr %r11
    li %r11, 0x31                   // IR, DR, LE
    andc %r12, %r12, %r11
    mtspr {SRR1}, %r12
    addis %r11, %r2, OPAL@toc@ha
    addi %r11, %r11, OPAL@toc@l
    ld %r12, 8(%r11)
    ld %r2, 0(%r11)
    mtspr {SRR0}, %r12
    rfid
    b .
1:  BECOME_LITTLE_ENDIAN
    ld %r2, 24(%r1)
    ld %r12, 40(%r1)
    addis %r11, %r2, 2f@toc@ha
    addi %r11, %r11, 2f@toc@l
    mtspr {SRR0}, %r11
    mtspr {SRR1}, %r12
    rfid
    b .
2:  addi %r1, %r1, 64
    ld %r0, 16(%r1)
    mtlr %r0
    lwz %r0, 8(%r1)
    mtcrf 0xff, %r0
    blr
    .size opal_call, .-opal_call
