// Between the virtual-mode hypervisor and a guest: enter_guest and full_exit, two halves of one function.

    .section .text.realmode, "ax"

    .set FRAME, 288

// What the hypervisor's own functions must keep goes to its stack, and comes back from there; the latter returns.
    .macro push_frame
    mflr %r0
    std %r0, 16(%r1)
    mfcr %r0
    stw %r0, 8(%r1)
    stdu %r1, -FRAME(%r1)
    .irp n,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, 32+8*(\n-14)(%r1)
    .endr
    .endm

    .macro pop_frame
    .irp n,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, 32+8*(\n-14)(%r1)
    .endr
    addi %r1, %r1, FRAME
    ld %r0, 16(%r1)
    mtlr %r0
    lwz %r0, 8(%r1)
    mtcrf 0xff, %r0
    blr
    .endm

// extern "C" fn enter_guest(vcpu: *mut Vcpu) -> u64
//
// Called with translation on, EE=0; returns the same way, with an ExitCode, when the guest has been left for
// good. r13 is the PerCpu in the hypervisor and nobody else's.
    .globl enter_guest
    .type enter_guest, @function
    .balign 128
enter_guest:
    addis %r2, %r12, .TOC.-enter_guest@ha
    addi %r2, %r2, .TOC.-enter_guest@l
    .localentry enter_guest, .-enter_guest
    push_frame
    mfspr %r13, {HSPRG0}
    std %r1, {PC_HOST_R1}(%r13)
    std %r3, {PC_VCPU}(%r13)
    std %r13, {V_PERCPU}(%r3)        // a vCPU changes CPUs

    // Translation off: the same addresses go on being valid.
    mfmsr %r4
    li %r5, {MSR_IR_DR}
    andc %r4, %r4, %r5
    addis %r5, %r2, 1f@toc@ha
    addi %r5, %r5, 1f@toc@l
    mtspr {SRR0}, %r5
    mtspr {SRR1}, %r4
    rfid
    b .
1:  mr %r12, %r3

    // The partition's translation.
    ld %r4, {PC_PARTITION_TABLE}(%r13)
    cmpdi %r4, 0
    ld %r5, {V_LPID}(%r12)
    ld %r6, {V_LPCR}(%r12)
    bne 2f
    ld %r4, {V_SDR1}(%r12)
    mtspr {SDR1}, %r4
2:  mtspr {LPIDR}, %r5
    mtspr {LPCR}, %r6
    isync
    li %r4, 0
    slbmte %r4, %r4                  // entry 0, which slbia spares
    slbia
    ld %r5, {V_SLB_COUNT}(%r12)
    cmpdi %r5, 0
    beq 4f
    mtctr %r5
    addi %r6, %r12, {V_SLB}-16
3:  ldu %r4, 16(%r6)
    ld %r5, 8(%r6)
    slbmte %r5, %r4
    bdnz 3b
4:
    // Registers that the hypervisor cannot keep the guest's values in.
    ld %r4, {V_AMR}(%r12)
    ld %r5, {V_IAMR}(%r12)
    mtspr {AMR}, %r4
    mtspr {IAMR}, %r5
    ld %r4, {V_SRR0}(%r12)
    ld %r5, {V_SRR1}(%r12)
    mtspr {SRR0}, %r4
    mtspr {SRR1}, %r5
    ld %r4, {V_DAR}(%r12)
    ld %r5, {V_DSISR}(%r12)
    mtspr {DAR}, %r4
    mtspr {DSISR}, %r5

    // Timers. Both are given as timebase values; the decrementer of a guest has 32 bits.
    mfspr %r6, {TB}
    ld %r4, {V_DEC_EXPIRES}(%r12)
    subf %r4, %r6, %r4
    lis %r5, 0x7fff
    ori %r5, %r5, 0xffff
    cmpd %r4, %r5
    ble 5f
    mr %r4, %r5
// Long past, it stays negative for two seconds from here, and so pending until the guest takes it.
5:  lis %r5, -0x4000
    cmpd %r4, %r5
    bge 6f
    mr %r4, %r5
6:  mtspr {DEC}, %r4
    // HDEC fires when it passes from zero to minus one: a negative value on top of another would be lost.
    ld %r4, {V_HDEC_AT}(%r12)
    subf. %r4, %r6, %r4
    bge 7f
    li %r4, 0
7:  mtspr {HDEC}, %r4

    ld %r4, {V_PC}(%r12)
    ld %r5, {V_MSR}(%r12)
    mtspr {HSRR0}, %r4
    mtspr {HSRR1}, %r5
    ld %r7, {V_TRACE_TAG}(%r12)
    li %r8, {TRACE_ENTRY}
    record %r7, %r6, %r4, %r5, %r9, %r10, %r13, %r8
    ld %r4, {V_LR}(%r12)
    mtlr %r4
    ld %r4, {V_CTR}(%r12)
    mtctr %r4
    ld %r4, {V_XER}(%r12)
    mtxer %r4
    ld %r4, {V_CR}(%r12)
    mtcrf 0xff, %r4
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \n, {V_GPR}+8*\n(%r12)
    .endr
    ld %r12, {V_GPR}+8*12(%r12)
    hrfid
    b .

// r13 = vCPU, r3 = ExitCode; the volatile registers, PC and MSR have been saved, r13 is in HSPRG1.
    .balign 128
    .globl full_exit
full_exit:
    .irp n,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \n, {V_GPR}+8*\n(%r13)
    .endr
    mr %r12, %r13
    mfspr %r13, {HSPRG0}
    mfspr %r4, {HSPRG1}
    std %r4, {V_GPR}+8*13(%r12)
    mfspr %r4, {DEC}
    mfspr %r5, {TB}
    extsw %r4, %r4
    add %r4, %r4, %r5
    std %r4, {V_DEC_EXPIRES}(%r12)
    ld %r6, {V_PC}(%r12)
    ld %r7, {V_MSR}(%r12)
    ld %r8, {V_TRACE_TAG}(%r12)
    sldi %r9, %r3, {TRACE_CODE}
    ori %r9, %r9, {TRACE_EXIT}
    record %r8, %r5, %r6, %r7, %r10, %r11, %r13, %r9
    mfspr %r4, {SRR0}
    mfspr %r5, {SRR1}
    std %r4, {V_SRR0}(%r12)
    std %r5, {V_SRR1}(%r12)
    mfspr %r4, {DAR}
    mfspr %r5, {DSISR}
    std %r4, {V_DAR}(%r12)
    std %r5, {V_DSISR}(%r12)
    mfspr %r4, {AMR}
    mfspr %r5, {IAMR}
    std %r4, {V_AMR}(%r12)
    std %r5, {V_IAMR}(%r12)
    li %r0, 0
    mtspr {AMR}, %r0
    mtspr {IAMR}, %r0

    // The valid segments, compacted. In one line: the loop would cost as much as a look at an entry.
    addi %r9, %r12, {V_SLB}-16
    mr %r6, %r9
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    li %r5, \n
    slbmfee %r7, %r5
    andis. %r8, %r7, 0x0800
    beq 1f
    slbmfev %r8, %r5
    ori %r7, %r7, \n
    stdu %r7, 16(%r6)
    std %r8, 8(%r6)
1:
    .endr
    subf %r9, %r9, %r6
    srdi %r9, %r9, 4
    std %r9, {V_SLB_COUNT}(%r12)

    // The hypervisor's own translation.
    isync
    ld %r4, {PC_PARTITION_TABLE}(%r13)
    cmpdi %r4, 0
    ld %r6, {PC_HOST_LPCR}(%r13)
    bne 3f
    ld %r4, {PC_HOST_SDR1}(%r13)
    mtspr {SDR1}, %r4
3:  mtspr {LPIDR}, %r0
    mtspr {LPCR}, %r6
    isync
    slbmte %r0, %r0
    slbia
    ld %r4, {PC_HOST_SLB_V}(%r13)
    lis %r5, 0xc000
    sldi %r5, %r5, 32
    oris %r5, %r5, 0x0800
    slbmte %r4, %r5
    li %r4, 1
    std %r4, {PC_SLB_NEXT}(%r13)
    isync

    std %r0, {PC_VCPU}(%r13)
    ld %r1, {PC_HOST_R1}(%r13)
    ld %r2, {PC_TOC}(%r13)
    ld %r4, {PC_HOST_MSR}(%r13)
    addis %r5, %r2, 4f@toc@ha
    addi %r5, %r5, 4f@toc@l
    mtspr {SRR0}, %r5
    mtspr {SRR1}, %r4
    rfid
    b .
4:  pop_frame
    .size enter_guest, .-enter_guest

// extern "C" fn idle_nap(): sleeps until DEC or an interrupt that LPCR lets through. Called with translation off
// and EE=0; wakes through the system reset vector, registers lost or not.
// extern "C" fn idle_stop(): the same by `stop` (POWER9 and later; PSSCR has been set).
    .macro sleep name, word
    .globl \name
    .type \name, @function
\name:
    addis %r2, %r12, .TOC.-\name@ha
    addi %r2, %r2, .TOC.-\name@l
    .localentry \name, .-\name
    push_frame
    mfspr %r13, {HSPRG0}
    std %r1, {PC_IDLE_R1}(%r13)
    // Everything stored before must be done before the thread sleeps (Power ISA 2.07B, book III-S, 3.3.2).
    ptesync
    ld %r0, {PC_IDLE_R1}(%r13)
1:  cmpd %r0, %r0
    bne 1b
    .long \word
    b .
    .size \name, .-\name
    .endm
    sleep idle_nap, 0x4c000364
    sleep idle_stop, 0x4c0002e4
idle_wake:
    mr %r1, %r12
    li %r0, 0
    std %r0, {PC_IDLE_R1}(%r13)
    ld %r2, {PC_TOC}(%r13)
    pop_frame
