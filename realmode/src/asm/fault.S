// HDSI and HISI: triage with translation off. HSRR0/1 hold the guest's state. Nothing but volatiles is saved
// unless virtual mode is needed, or an instruction is carried out.

    .section .text.realmode, "ax"

    .macro storage fetch
    mtspr {HSPRG1}, %r13
    mfspr %r13, {HSPRG0}
    ld %r13, {PC_VCPU}(%r13)
    save_gprs %r13, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    mfcr %r0
    std %r0, {V_CR}(%r13)
    save_branches %r13
    mfspr %r5, {HSRR0}
    std %r5, {V_PC}(%r13)
    mfspr %r6, {HSRR1}
    std %r6, {V_MSR}(%r13)
    .if \fetch
    mr %r4, %r5
    mr %r5, %r6
    .else
    mfspr %r4, {HDAR}
    mfspr %r5, {HDSISR}
    .endif
    ld %r12, {V_PERCPU}(%r13)
    ld %r1, {PC_RM_STACK}(%r12)
    ld %r2, {PC_TOC}(%r12)
    mr %r3, %r13
    li %r6, \fetch
    bl rm_storage_fault
    nop
    cmpdi %r3, 0
    beq resume
    cmpdi %r3, {EMULATE}
    bne full_exit
    b emulate
    .endm

    .balign 128
storage_data:
    storage 0
storage_fetch:
    storage 1

// An instruction is carried out for the guest, whatever registers it names: the non-volatile ones and r13 go to
// the vCPU for that, and come back from there.
emulate:
    save_gprs %r13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    mfspr %r0, {HSPRG1}
    std %r0, {V_GPR}+8*13(%r13)
    mr %r3, %r13
    bl rm_emulate
    nop
    cmpdi %r3, 0
    bne full_exit
    ld %r0, {V_GPR}+8*13(%r13)
    mtspr {HSPRG1}, %r0
    load_gprs %r13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    b resume

// Back to the guest at V_PC with V_MSR. r13 = vCPU; the non-volatile registers are the guest's already, and
// so is HSPRG1's r13.
    .balign 128
resume:
    ld %r0, {V_PC}(%r13)
    mtspr {HSRR0}, %r0
    ld %r0, {V_MSR}(%r13)
    mtspr {HSRR1}, %r0
    load_branches %r13
    load_gprs %r13, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    mfspr %r13, {HSPRG1}
    hrfid
    b .
