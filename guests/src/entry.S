# Entry, interrupt vectors, and the switch between a program and the code that it tests.
#
# Registers are ELFv2's. Everything here runs with EE off, linked at 0xc000000000000000 and entered at real address 0:
# real mode ignores the top four bits of an address, so both names work until the program maps the linear range.
# SPRG0 holds this CPU's `Cpu` (context.rs), whose first part is a `Context`; SPRG1 is scratch of the vectors.

# Continue in this build's byte order and in 64-bit mode, however entered. Clobbers r10, r11, LR.
.macro SWITCH_ENDIAN
    tdi 0, 0, 0x48              # in the other byte order this word is a branch over the next one
    b 8f
    .long 0xa600607d            # the rest reads, in the other byte order: mfmsr r11
    .long 0x01006b69            # xori r11, r11, 1
    .long 0x05009f42            # bcl 20, 31, .+4
    .long 0xa602487d            # mflr r10
    .long 0x14004a39            # addi r10, r10, 20
    .long 0xa6035a7d            # mtsrr0 r10
    .long 0xa6037b7d            # mtsrr1 r11
    .long 0x2400004c            # rfid
8:
    li 10, 1
    rldicr 10, 10, 63, 0
    ori 10, 10, 0x1000          # ME
    mtmsrd 10
.endm

# r2 = TOC and r12 = a linear address of what follows. Clobbers r11, LR.
.macro LINEAR_TOC
    bcl 20, 31, 7f
7:  mflr 12
    lis 11, -0x4000
    sldi 11, 11, 32
    or 12, 12, 11
    addis 2, 12, (.TOC.-7b)@ha
    addi 2, 2, (.TOC.-7b)@l
.endm

# One interrupt's entry, 32 bytes: any MSR with SF=1 and EE=0.
.macro STUB
    mtspr 273, 1
    mfspr 1, 272
    std 0, 0(1)
    mflr 0
    std 0, {lr}(1)
    bl interrupt_common
    nop
    nop
.endm

    .section .vectors, "ax"
    .org 0x100
    .globl _start
_start:                         # PAPR entry: r3 = device tree, MSR = ME and perhaps SF, big endian
    SWITCH_ENDIAN
    b start_first
    .globl secondary_start
secondary_start:                # from RTAS start-cpu: r3 = real address of this CPU's `Cpu`
    SWITCH_ENDIAN
    b start_secondary
    .org 0x200
    .rept (0x1800 - 0x200) / 32
    STUB
    .endr
    .org 0x4200                 # where interrupts arrive under AIL
    .rept (0x1800 - 0x200) / 32
    STUB
    .endr

interrupt_common:               # r1 = Cpu, SPRG1 = r1, GPR0 and LR saved, LR = vector + 0x18
    .irp r, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \r, 8*\r(1)
    .endr
    mfspr 0, 273
    std 0, 8(1)
    mflr 3
    addi 3, 3, -0x18
    std 3, {arrival}(1)
    mfspr 4, 26
    std 4, {nip}(1)
    mfspr 4, 27
    std 4, {msr}(1)
    mfspr 4, 19
    std 4, {dar}(1)
    mfspr 4, 18
    std 4, {dsisr}(1)
    mfcr 4
    std 4, {cr}(1)
    mfctr 4
    std 4, {ctr}(1)
    mfxer 4
    std 4, {xer}(1)
    ld 3, {host_sp}(1)
    cmpdi 3, 0
    beq 1f
    li 4, 0
    std 4, {host_sp}(1)
    ld 4, {host_pc}(1)
    ld 5, {host_msr}(1)
    mr 1, 3
    b 2f
1:  mr 3, 1                     # nothing was under test: the program itself was interrupted
    ld 4, {panic_pc}(1)
    ld 5, {panic_msr}(1)
    ld 2, {toc}(1)
    ld 1, {panic_sp}(1)
    mr 12, 4
2:  mtspr 26, 4
    mtspr 27, 5
    rfid

    .text
start_first:
    mr 31, 3
    LINEAR_TOC
    addis 3, 2, __bss_start@toc@ha
    addi 3, 3, __bss_start@toc@l
    addis 4, 2, __bss_end@toc@ha
    addi 4, 4, __bss_end@toc@l
    li 0, 0
1:  cmpld 3, 4
    bge 2f
    std 0, 0(3)
    addi 3, 3, 8
    b 1b
2:  addis 1, 2, {stack}@toc@ha
    addi 1, 1, {stack}@toc@l
    addis 1, 1, {stack_size} >> 16
    addi 1, 1, -128
    li 0, 0
    std 0, 0(1)
    mr 3, 31
    mr 4, 2
    addis 12, 2, {start}@toc@ha
    addi 12, 12, {start}@toc@l
    mtctr 12
    bctrl
    trap

start_secondary:
    LINEAR_TOC
    or 3, 3, 11
    mtspr 272, 3
    ld 1, {stack_top}(3)
    li 0, 0
    std 0, 0(1)
    addis 12, 2, {secondary}@toc@ha
    addi 12, 12, {secondary}@toc@l
    mtctr 12
    bctrl
    trap

# enter_context(r3 = Cpu): loads its Context and runs it; returns when any interrupt has come.
    .globl enter_context
enter_context:
    mflr 0
    std 0, 16(1)
    mfcr 0
    stw 0, 8(1)
    stdu 1, -256(1)
    std 2, 24(1)
    .irp r, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    std \r, 8*\r(1)
    .endr
    std 1, {host_sp}(3)
    bcl 20, 31, 1f
1:  mflr 4
    addi 4, 4, host_return - 1b
    std 4, {host_pc}(3)
    mfmsr 4
    std 4, {host_msr}(3)
    mr 1, 3
    ld 0, {nip}(1)
    mtspr 26, 0
    ld 0, {msr}(1)
    mtspr 27, 0
    ld 0, {cr}(1)
    mtcr 0
    ld 0, {lr}(1)
    mtlr 0
    ld 0, {ctr}(1)
    mtctr 0
    ld 0, {xer}(1)
    mtxer 0
    ld 0, 0(1)
    .irp r, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \r, 8*\r(1)
    .endr
    ld 1, 8(1)
    rfid
host_return:
    ld 2, 24(1)
    .irp r, 13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld \r, 8*\r(1)
    .endr
    addi 1, 1, 256
    lwz 0, 8(1)
    mtcr 0
    ld 0, 16(1)
    mtlr 0
    blr

# hypercall(r3 = arguments and results: ten dwords, r3 to r12)
    .globl hypercall
hypercall:
    std 31, -8(1)
    stdu 1, -64(1)
    mr 31, 3
    .irp r, 4,5,6,7,8,9,10,11,12
    ld \r, 8*\r - 24(31)
    .endr
    ld 3, 0(31)
    sc 1
    .irp r, 3,4,5,6,7,8,9,10,11,12
    std \r, 8*\r - 24(31)
    .endr
    addi 1, 1, 64
    ld 31, -8(1)
    blr
