// A hypercall: `sc 1`. MSR: translation off, HV, EE=0. SRR0/1 hold the guest's state and stay untouched
// unless the call injects an interrupt. No LPID, SLB, LPCR, floating point or non-volatile register changes.
//
// The Rust handler gets r3 = the vCPU and the guest's r4–r10 in place, and returns the status for r3 or one of
// the codes below RM_SPECIAL. Other outputs it writes to the saved registers, from which all but r3 are
// restored: guests rely on what PAPR calls volatile. The saved r3 stays the number: it chooses the counter.

    .section .text.realmode, "ax"
    .balign 128
hcall:
    mtspr {HSPRG1}, %r13
    mfspr %r13, {HSPRG0}
    ld %r13, {PC_VCPU}(%r13)
    save_gprs %r13, 0, 12
    mfcr %r0
    mfspr %r12, {SRR1}
    std %r0, {V_CR}(%r13)
    andi. %r0, %r12, {MSR_PR}
    save_gprs %r13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    save_branches %r13
    ld %r12, {V_PERCPU}(%r13)
    mfspr %r0, {TB}
    ld %r11, {V_TRACE_TAG}(%r13)
    std %r0, {V_LEFT_AT}(%r13)
    record %r11, %r0, %r3, %r4, %r1, %r2, %r12
    bne 8f                         // from problem state: H_PRIVILEGE
    rotldi %r0, %r3, 62            // what is not a multiple of 4 becomes very large
    cmpldi %r0, {HCALL_MAX}/4
    ld %r1, {PC_RM_STACK}(%r12)
    ld %r2, {PC_TOC}(%r12)
    bgt 6f
    addis %r12, %r2, HCALL_TABLE@toc@ha
    addi %r12, %r12, HCALL_TABLE@toc@l
    sldi %r0, %r0, 3
    ldx %r12, %r12, %r0
    mtctr %r12
    mr %r3, %r13
    bctrl
5:  cmpdi %r3, {RM_SPECIAL}
    blt 4f
    ld %r5, {V_GPR}+8*3(%r13)
    sldi %r5, %r5, 2
// One more call for the counter at r5 in the statistics.
3:  mfspr %r4, {TB}
    ld %r6, {V_STATS}(%r13)
    ld %r7, {V_LEFT_AT}(%r13)
    ldux %r8, %r6, %r5
    ld %r9, {COUNTER_TICKS}(%r6)
    subf %r4, %r7, %r4
    addi %r8, %r8, 1
    add %r9, %r9, %r4
    std %r8, 0(%r6)
    std %r9, {COUNTER_TICKS}(%r6)
    load_branches %r13
    load_gprs %r13, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
    mfspr %r13, {HSPRG1}
    rfid
    b .

// Not a plain status. The codes are in hcalls/mod.rs.
4:  mfspr %r0, {SRR0}
    std %r0, {V_PC}(%r13)
    mfspr %r0, {SRR1}
    std %r0, {V_MSR}(%r13)
    cmpdi %r3, {RM_TOO_HARD}
    li %r3, {EXIT_HCALL}
    beq full_exit
    mr %r3, %r13
    bl rm_hcall_special
    nop
    cmpdi %r3, 0
    bne full_exit
    b resume

// Beyond PAPR's range: H_RTAS and the four of the hypervisor's own.
6:  ori %r0, %r3, 0xc
    cmpldi %r3, {H_RTAS}
    cmpldi %cr1, %r0, {PRIVATE_LAST}
    li %r3, {RM_TOO_HARD}
    beq 5b
    beq %cr1, 5b
    li %r3, {H_FUNCTION}
7:  li %r5, {STATS_REFUSED}
    b 3b
8:  li %r3, {H_PRIVILEGE}
    b 7b
