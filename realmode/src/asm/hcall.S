// A hypercall: `sc 1`. MSR: translation off, HV, EE=0. SRR0/1 hold the guest's state and stay untouched
// unless the call injects an interrupt. No LPID, SLB, LPCR, floating point or non-volatile register changes.
//
// The Rust handler gets r3 = the vCPU and the guest's r4–r7 in place, and returns the status for r3 or one of
// the codes below RM_SPECIAL. Other outputs it writes to the saved registers, from which all but r3 are
// restored: guests rely on what PAPR calls volatile. The saved r3 stays the number: it chooses the counter.
//
// Which handler it is decides what is saved (hcalls/mod.rs: Kind). A leaf uses r0, r3–r12 and CR only; a framed one
// has a stack, too, and keeps r14–r31; any other may use what a function may use.

// At the vector. Ends at hcall_leaf, hcall_framed or hcall_general with r12 = the handler, or at hcall_odd.
    .macro hcall_entry
    mtspr {HSPRG1}, %r13
    mfspr %r13, {HSPRG0}
    ld %r13, {PC_VCPU}(%r13)
    save_gprs %r13, 0, 12
    mfcr %r0
    mfspr %r12, {SRR1}
    std %r0, {V_CR}(%r13)
    andi. %r12, %r12, {MSR_PR}
    rotldi %r12, %r3, 62           // what is not a multiple of 4 becomes very large
    cmpldi %cr1, %r12, {HCALL_MAX}/4
    save_gprs %r13, 3, 4, 5, 6, 7, 8, 9, 10, 11
    mflr %r0
    std %r0, {V_LR}(%r13)
    bne hcall_odd
    bgt %cr1, hcall_odd
    sldi %r12, %r12, 3
    ld %r12, HCALL_TABLE@l(%r12)   // the table is in the first 32 KiB
    mtcrf 0x01, %r12               // the last bits say what it is
    bso %cr7, hcall_leaf
    beq %cr7, hcall_framed
    b hcall_general
    .endm

// What neither a leaf nor a framed handler changes, and other functions do; r1 is saved separately.
    .macro save_the_rest
    save_gprs %r13, 2
    mfctr %r0
    std %r0, {V_CTR}(%r13)
    mfxer %r0
    std %r0, {V_XER}(%r13)
    .endm

// The event, and the time that the counter needs. r4 is the event's second word; r0 and the named registers are lost.
    .macro hcall_event percpu, slot, tag, next
    ld \percpu, {V_PERCPU}(%r13)
    mfspr %r0, {TB}
    ld \tag, {V_TRACE_TAG}(%r13)
    std %r0, {V_LEFT_AT}(%r13)
    record \tag, %r0, %r3, %r4, \slot, \next, \percpu
    .endm

// One more call for the counter at r5 in the statistics. Changes r4 and r6 to r9.
    .macro hcall_count
    mfspr %r4, {TB}
    ld %r6, {V_STATS}(%r13)
    ld %r7, {V_LEFT_AT}(%r13)
    ldux %r8, %r6, %r5
    ld %r9, {COUNTER_TICKS}(%r6)
    subf %r4, %r7, %r4
    addi %r8, %r8, 1
    add %r9, %r9, %r4
    std %r8, 0(%r6)
    std %r9, {COUNTER_TICKS}(%r6)
    .endm

// Back to the guest with r3, and with the saved registers that are named beside those that a leaf may use.
    .macro hcall_leave registers:vararg
    ld %r5, {V_GPR}+8*3(%r13)
    sldi %r5, %r5, 2
    hcall_count
    ld %r0, {V_LR}(%r13)
    mtlr %r0
    ld %r0, {V_CR}(%r13)
    mtcrf 0xff, %r0
    load_gprs %r13, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12
    load_gprs %r13, \registers
    mfspr %r13, {HSPRG1}
    rfid
    b .
    .endm

    .section .text.realmode, "ax"
    .balign 128
hcall_leaf:
    mtlr %r12
    hcall_event %r8, %r9, %r10, %r11
    mr %r3, %r13
    blrl
    cmpdi %r3, {RM_SPECIAL}
    blt 1f
    hcall_leave
// It did not do. Only now is there need for a stack.
1:  save_gprs %r13, 1
    ld %r12, {V_PERCPU}(%r13)
    ld %r1, {PC_RM_STACK}(%r12)
    b 2f

    .balign 128
hcall_framed:
    mtlr %r12
    hcall_event %r8, %r9, %r10, %r11
    save_gprs %r13, 1
    ld %r1, {PC_RM_STACK}(%r8)
    mr %r3, %r13
    blrl
    cmpdi %r3, {RM_SPECIAL}
    blt 2f
    hcall_leave 1
2:  save_the_rest
    b hcall_special

    .balign 128
hcall_general:
    save_gprs %r13, 1
    save_the_rest
    mtctr %r12
    hcall_event %r8, %r9, %r10, %r11
    ld %r1, {PC_RM_STACK}(%r8)
    mr %r3, %r13
    bctrl                          // the handler finds its TOC pointer by r12
    cmpdi %r3, {RM_SPECIAL}
    blt hcall_special
    ld %r5, {V_GPR}+8*3(%r13)
    sldi %r5, %r5, 2
hcall_return:
    hcall_count
    load_branches %r13
    load_gprs %r13, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12
    mfspr %r13, {HSPRG1}
    rfid
    b .

// Not a plain status. The codes are in hcalls/mod.rs; everything is saved, and r1 is the real-mode stack.
hcall_special:
    mfspr %r0, {SRR0}
    std %r0, {V_PC}(%r13)
    mfspr %r0, {SRR1}
    std %r0, {V_MSR}(%r13)
    cmpdi %r3, {RM_TOO_HARD}
    beq 2f
    ld %r12, {V_PERCPU}(%r13)
    ld %r2, {PC_TOC}(%r12)
    mr %r4, %r3
    mr %r3, %r13
    bl rm_hcall_special
    nop
    cmpdi %r3, 0
    bne full_exit
    b resume
2:  li %r3, {EXIT_HCALL}
    b full_exit

// From problem state, or beyond PAPR's range: there are H_RTAS and the four of the hypervisor's own.
hcall_odd:
    save_gprs %r13, 1
    save_the_rest
    hcall_event %r8, %r9, %r10, %r11
    ld %r1, {PC_RM_STACK}(%r8)
    li %r5, {STATS_REFUSED}
    mfspr %r12, {SRR1}
    andi. %r12, %r12, {MSR_PR}
    ori %r0, %r3, 0xc
    cmpldi %cr1, %r3, {H_RTAS}
    cmpldi %cr5, %r0, {PRIVATE_LAST}
    li %r3, {H_PRIVILEGE}
    bne hcall_return
    li %r3, {RM_TOO_HARD}
    beq %cr1, hcall_special
    beq %cr5, hcall_special
    li %r3, {H_FUNCTION}
    b hcall_return
