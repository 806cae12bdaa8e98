// What the real-mode entry points have in common. All four files are one assembly: see world.rs.

// Stores, or loads, general purpose registers of the vCPU that a register points to.
    .macro save_gprs vcpu, numbers:vararg
    .irp n, \numbers
    std \n, {V_GPR}+8*\n(\vcpu)
    .endr
    .endm

    .macro load_gprs vcpu, numbers:vararg
    .irp n, \numbers
    ld \n, {V_GPR}+8*\n(\vcpu)
    .endr
    .endm

// Writes an event (trace/src/event.rs) to the CPU's ring. `tag` holds the vCPU's ready tag and is lost, as are `slot` and
// `next`; `time`, `a`, `b` and `percpu` stay. The register `bits`, if there is one, holds kind and code.
    .macro record tag, time, a, b, slot, next, percpu, bits
    ld \slot, {PC_TRACE}(\percpu)
    std \time, 0(\slot)
    std \a, 16(\slot)
    std \b, 24(\slot)
    add \next, \slot, \tag
    rldimi \tag, \time, {TRACE_STAMP}, 48-{TRACE_STAMP}
    .ifnb \bits
    or \tag, \tag, \bits
    .endif
    std \tag, 8(\slot)
    sth \next, {PC_TRACE}(\percpu)  // the low halfword only: it wraps
    .endm

// LR, CTR and XER, through r0.
    .macro save_branches vcpu
    mflr %r0
    std %r0, {V_LR}(\vcpu)
    mfctr %r0
    std %r0, {V_CTR}(\vcpu)
    mfxer %r0
    std %r0, {V_XER}(\vcpu)
    .endm

// The same and CR.
    .macro load_branches vcpu
    ld %r0, {V_LR}(\vcpu)
    mtlr %r0
    ld %r0, {V_CTR}(\vcpu)
    mtctr %r0
    ld %r0, {V_XER}(\vcpu)
    mtxer %r0
    ld %r0, {V_CR}(\vcpu)
    mtcrf 0xff, %r0
    .endm
