// The interrupt vectors, from real address 0x100: translation off, hypervisor state, little endian.
//
// Two prologues. Interrupts that a guest causes in its stride (hypercall, storage) have one each. All
// others look at the interrupted state's HV bit first: from a guest they go to interrupt_from_guest,
// from the hypervisor itself to crash, which never returns. Interrupts that may not return from the
// hypervisor (MSR[EE] is never set there) are thereby named and not lost.
//
// HSPRG0 holds the PerCpu, HSPRG1 the interrupted r13. SRR: the interrupt saved to SRR0/1; HSRR: to HSRR0/1.

    .section .vectors, "ax"

// An interrupt that only the hypervisor or only an unexpected event takes.
    .macro vector offset, which
    .org \offset - 0x100
    mtspr {HSPRG1}, %r13
    mfspr %r13, {HSPRG0}
    std %r12, {PC_SCRATCH}(%r13)
    mfcr %r12
    std %r12, {PC_SCRATCH}+8(%r13)
    li %r12, \offset
    b from_\which
    .endm

realmode_vectors:
// System reset: also the way out of sleep.
    .org 0x100 - 0x100
    mtspr {HSPRG1}, %r13
    mfspr %r13, {HSPRG0}
    std %r12, {PC_SCRATCH}(%r13)
    mfcr %r12
    std %r12, {PC_SCRATCH}+8(%r13)
    ld %r12, {PC_IDLE_R1}(%r13)
    cmpdi %r12, 0
    bne idle_wake
    li %r12, 0x100
    b from_srr
    vector 0x200, srr
    vector 0x300, srr
// Data segment: the hypervisor's linear map is loaded here.
    .org 0x380 - 0x100
    mtspr {HSPRG1}, %r13
    mfspr %r13, {HSPRG0}
    std %r12, {PC_SCRATCH}(%r13)
    mfcr %r12
    std %r12, {PC_SCRATCH}+8(%r13)
    b host_segment
    vector 0x400, srr
    vector 0x480, srr
    vector 0x500, hsrr
    vector 0x600, srr
    vector 0x700, srr
    vector 0x800, srr
    vector 0x900, srr
    vector 0x980, hsrr
    vector 0xa00, srr
    vector 0xb00, srr
    .org 0xc00 - 0x100
    hcall_entry
    vector 0xd00, srr
    .org 0xe00 - 0x100
    b storage_data
    .org 0xe20 - 0x100
    b storage_fetch
    vector 0xe40, hsrr
    vector 0xe60, hsrr
    vector 0xe80, hsrr
    vector 0xea0, hsrr
    vector 0xf00, srr
    vector 0xf20, srr
    vector 0xf40, srr
    vector 0xf60, srr
    vector 0xf80, hsrr
    vector 0x1500, hsrr
    .org 0x1600 - 0x100

// r13 = PerCpu, r12 = the vector's offset; r12 and CR are in scratch, r13 in HSPRG1.
from_srr:
    std %r11, {PC_SCRATCH}+16(%r13)
    mfspr %r11, {SRR0}
    std %r11, {PC_SCRATCH}+24(%r13)
    mfspr %r11, {SRR1}
    b 1f
from_hsrr:
    std %r11, {PC_SCRATCH}+16(%r13)
    mfspr %r11, {HSRR0}
    std %r11, {PC_SCRATCH}+24(%r13)
    mfspr %r11, {HSRR1}
1:  std %r11, {PC_SCRATCH}+32(%r13)
    rldicl. %r11, %r11, 4, 63        // MSR[HV] of the interrupted state
    bne crash

// From a guest: everything volatile goes to the vCPU, then Rust decides.
    ld %r11, {PC_VCPU}(%r13)
    save_gprs %r11, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ld %r0, {PC_SCRATCH}+16(%r13)
    std %r0, {V_GPR}+8*11(%r11)
    ld %r0, {PC_SCRATCH}(%r13)
    std %r0, {V_GPR}+8*12(%r11)
    ld %r0, {PC_SCRATCH}+8(%r13)
    std %r0, {V_CR}(%r11)
    ld %r0, {PC_SCRATCH}+24(%r13)
    std %r0, {V_PC}(%r11)
    ld %r0, {PC_SCRATCH}+32(%r13)
    std %r0, {V_MSR}(%r11)
    save_branches %r11
    ld %r1, {PC_RM_STACK}(%r13)
    ld %r2, {PC_TOC}(%r13)
    mr %r13, %r11
    mr %r3, %r11
    mr %r4, %r12
    bl rm_interrupt
    nop
    cmpdi %r3, 0
    bne full_exit
    b resume

// The hypervisor took an interrupt that it cannot return from. r11, r12, CR and the interrupted PC and MSR
// are in scratch; r12 = vector.
crash:
    std %r0, {PC_FRAME}+8*0(%r13)
    std %r1, {PC_FRAME}+8*1(%r13)
    std %r2, {PC_FRAME}+8*2(%r13)
    std %r3, {PC_FRAME}+8*3(%r13)
    std %r4, {PC_FRAME}+8*4(%r13)
    std %r5, {PC_FRAME}+8*5(%r13)
    std %r6, {PC_FRAME}+8*6(%r13)
    std %r7, {PC_FRAME}+8*7(%r13)
    std %r8, {PC_FRAME}+8*8(%r13)
    std %r9, {PC_FRAME}+8*9(%r13)
    std %r10, {PC_FRAME}+8*10(%r13)
    ld %r0, {PC_SCRATCH}+16(%r13)
    std %r0, {PC_FRAME}+8*11(%r13)
    ld %r0, {PC_SCRATCH}(%r13)
    std %r0, {PC_FRAME}+8*12(%r13)
    mfspr %r0, {HSPRG1}
    std %r0, {PC_FRAME}+8*13(%r13)
    .irp n,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {PC_FRAME}+8*\n(%r13)
    .endr
    ld %r0, {PC_SCRATCH}+24(%r13)
    std %r0, {PC_FRAME}+8*32(%r13)
    ld %r0, {PC_SCRATCH}+32(%r13)
    std %r0, {PC_FRAME}+8*33(%r13)
    std %r12, {PC_FRAME}+8*34(%r13)
    ld %r0, {PC_SCRATCH}+8(%r13)
    std %r0, {PC_FRAME}+8*35(%r13)
    mflr %r0
    std %r0, {PC_FRAME}+8*36(%r13)
    mfctr %r0
    std %r0, {PC_FRAME}+8*37(%r13)
    mfspr %r0, {DAR}
    std %r0, {PC_FRAME}+8*38(%r13)
    mfspr %r0, {DSISR}
    std %r0, {PC_FRAME}+8*39(%r13)
    ld %r1, {PC_EMERGENCY}(%r13)
    ld %r2, {PC_TOC}(%r13)
    addi %r3, %r13, {PC_FRAME}
    ld %r12, {PC_CRASH}(%r13)
    mtctr %r12
    bctrl
    b .

// A segment of the linear map (0xc…) or of the device windows (0xd…) is missing from the hypervisor's SLB.
// Segment n of the linear map has VSID HOST_VSID + n * VSID_STRIDE and 16 MiB pages; the one segment of device windows
// has VSID HOST_DEVICE_VSID and 64 KiB pages. r13 = PerCpu; r12 and CR are in scratch.
host_segment:
    std %r11, {PC_SCRATCH}+16(%r13)
    mfspr %r11, {SRR1}
    rldicl. %r11, %r11, 4, 63
    beq 9f
    mfspr %r12, {DAR}
    rldicl %r11, %r12, 4, 60         // top four bits
    cmpldi %r11, 0xc
    rldicl %r11, %r12, 36, 32        // segment number without them
    bne 2f
    ld %r12, {PC_SEGMENTS}(%r13)
    cmpld %r11, %r12
    bge 9f
    sldi %r12, %r11, {HOST_VSID_SHIFT}
    addis %r12, %r12, {HOST_VSID_HI}
    sldi %r12, %r12, 12
    ori %r12, %r12, 0x100            // L=1, LP=00: 16 MiB
    sldi %r11, %r11, 28
    oris %r11, %r11, 0x0800          // V
    std %r10, {PC_SCRATCH}+40(%r13)
    li %r10, 0xc
1:  sldi %r10, %r10, 60
    or %r11, %r11, %r10
    ld %r10, {PC_SLB_NEXT}(%r13)
    or %r11, %r11, %r10
    addi %r10, %r10, 1
    cmpldi %r10, 32
    blt 3f
    li %r10, 1
3:  std %r10, {PC_SLB_NEXT}(%r13)
    slbmte %r12, %r11
    ld %r10, {PC_SCRATCH}+40(%r13)
    ld %r11, {PC_SCRATCH}+8(%r13)
    mtcrf 0xff, %r11
    ld %r11, {PC_SCRATCH}+16(%r13)
    ld %r12, {PC_SCRATCH}(%r13)
    mfspr %r13, {HSPRG1}
    rfid
    b .
2:  rldicl %r12, %r12, 4, 60
    cmpldi %r12, 0xd
    bne 9f
    cmpldi %r11, 0
    bne 9f
    lis %r12, {HOST_DEVICE_VSID_HI}
    sldi %r12, %r12, 12
    ori %r12, %r12, 0x110            // L=1, LP=01: 64 KiB
    lis %r11, 0x0800
    std %r10, {PC_SCRATCH}+40(%r13)
    li %r10, 0xd
    b 1b
9:  ld %r11, {PC_SCRATCH}+16(%r13)
    li %r12, 0x380
    b from_srr
