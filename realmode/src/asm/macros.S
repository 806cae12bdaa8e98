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
