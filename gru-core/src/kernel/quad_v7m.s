@ GRU and Dense layers on the Quad layout for ARMv7-M (Cortex-M3).
@
@ The arithmetic is that of quad_v6m.s, whose head explains it; here a multiplication accumulates,
@ shifted operands separate the rows, and SSAT saturates. No branch depends on data.

	.syntax unified
	.thumb

@ ---- multiply-accumulate ----------------------------------------------------------------

	@ Four rows of one column: 11 cycles, 28 bytes.
	.macro	MAC4 w, x, a, b, c, d
	asr	lr, \w, #24
	mla	\d, lr, \x, \d
	asr	lr, \w, #16
	mla	\c, lr, \x, \c
	asr	lr, \w, #8
	mla	\b, lr, \x, \b
	mla	\a, \w, \x, \a
	.endm

	@ One column of eight rows: 26 cycles, 68 bytes.
	.macro	COLUMN8
	ldrsh	r12, [r1], #2
	ldr	r2, [r0], #4
	ldr	r3, [r0], #4
	MAC4	r2, r12, r4, r5, r6, r7
	MAC4	r3, r12, r8, r9, r10, r11
	.endm

	@ Two columns of four rows: 27 cycles, 72 bytes.
	.macro	PAIR4
	ldrsh	r2, [r1], #2
	ldrsh	r3, [r1], #2
	ldr	r8, [r0], #4
	ldr	r9, [r0], #4
	MAC4	r8, r2, r4, r5, r6, r7
	MAC4	r9, r3, r4, r5, r6, r7
	.endm

	.section .text.gru_quad, "ax", %progbits

	@ Sums of eight rows. r0 weights, r1 x, r2 -> i0 i1 i2, r3 end of x, r12 entry into the loop.
	@ Returns r0 after the weights; the rows of the first word, apart from each other, in r4-r7,
	@ those of the second in r8-r11. Clobbers r1-r3, r12. [sp] of the caller holds the end of x.
	.p2align 2
	.thumb_func
.Lmac8:
	push	{lr}
	str	r3, [sp, #4]
	ldm	r2, {r4, r5, r6}
	movs	r7, #0
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	mov	r11, r7
	bx	r12
	.thumb_func
.Lloop8:
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	COLUMN8
	ldr	lr, [sp, #4]
	cmp	r1, lr
	bne	.Lloop8
	sub	r4, r4, r5, lsl #8
	sub	r5, r5, r6, lsl #8
	sub	r6, r6, r7, lsl #8
	sub	r8, r8, r9, lsl #8
	sub	r9, r9, r10, lsl #8
	sub	r10, r10, r11, lsl #8
	pop	{pc}

	@ Sums of four rows: as above, results in r4-r7; clobbers r1-r3, r8-r10, r12.
	.p2align 2
	.thumb_func
.Lmac4:
	push	{lr}
	mov	r10, r3
	ldm	r2, {r4, r5, r6}
	movs	r7, #0
	bx	r12
	.thumb_func
.Lloop4:
	PAIR4
	PAIR4
	PAIR4
	PAIR4
	PAIR4
	PAIR4
	PAIR4
	PAIR4
	cmp	r1, r10
	bne	.Lloop4
	sub	r4, r4, r5, lsl #8
	sub	r5, r5, r6, lsl #8
	sub	r6, r6, r7, lsl #8
	pop	{pc}

	@ i0 i1 i2 of the x from r0 to r1 (a multiple of two words), stored at r2, which moves on.
	@ Clobbers r0, r3-r6.
	.p2align 2
	.thumb_func
.Linit:
	movs	r5, #0
2:	ldm	r0!, {r3, r4}
	sxth	r6, r3
	add	r5, r5, r6
	add	r5, r5, r3, asr #16
	sxth	r6, r4
	add	r5, r5, r6
	add	r5, r5, r4, asr #16
	cmp	r0, r1
	bne	2b
	lsls	r5, r5, #7
	negs	r5, r5
	add	r4, r5, r5, lsl #8
	add	r3, r5, r4, lsl #8
	stm	r2!, {r3, r4, r5}
	bx	lr

	@ \out = address of the entry into the loop at label \loop with parts of \bytes bytes, for
	@ \parts >= 1 parts: the first pass does what is left over from a multiple of \mask + 1.
	.macro	ENTRY out, t, parts, loop, bytes, mask
	rsb	\out, \parts, #0
	and	\out, \out, #\mask
	mov	\t, #\bytes
	mul	\out, \t, \out
	ldr	\t, =\loop
	add	\out, \out, \t
	orr	\out, \out, #1
	.endm

@ ---- arithmetic ------------------------------------------------------------------------

	@ \out += floor(acc * m / 2^16), m < 2^15. Clobbers r12, lr.
	.macro	REQ out, acc, m
	asr	r12, \acc, #16
	uxth	lr, \acc
	mul	r12, r12, \m
	mul	lr, lr, \m
	add	\out, \out, r12
	add	\out, \out, lr, lsr #16
	.endm

	@ out = tanh of sat16(v); r1 = middle of the table. Clobbers r12, lr; \out may be \v.
	.macro	TANH out, v
	ssat	\v, #16, \v
	asr	r12, \v, #7
	and	\v, \v, #127
	ldr	r12, [r1, r12, lsl #2]
	sxth	lr, r12
	mul	lr, lr, \v
	add	\out, r12, lr, lsl #8
	asr	\out, \out, #16
	.endm

@ ---- GRU layer -------------------------------------------------------------------------

	.equ	F_CUR, 0	@ end of x of the running .Lmac8
	.equ	F_BLOCK, 4	@ the first four arguments
	.equ	F_X, 8
	.equ	F_H, 12
	.equ	F_OUT, 16
	.equ	F_X8, 20	@ entries into the loops
	.equ	F_H8, 24
	.equ	F_X4, 28
	.equ	F_H4, 32
	.equ	F_U, 36
	.equ	F_HP, 40	@ h of the block's units
	.equ	F_IX, 44	@ i0 i1 i2 of x
	.equ	F_IH, 56	@ i0 i1 i2 of h
	.equ	F_VR, 68	@ b + req(W x), four units each
	.equ	F_VZ, 84
	.equ	F_NX, 100
	.equ	F_NH, 116
	.equ	FRAME, 132
	.equ	ARGS, FRAME + 36	@ the other arguments, behind the saved registers
	.equ	F_XEND, ARGS	@ comes as pairs of columns of x
	.equ	F_HEND, ARGS + 4	@ comes as pairs of columns of h
	.equ	F_BLOCKS, ARGS + 8
	.equ	F_SHIFT, ARGS + 12
	.equ	F_TABLE, ARGS + 16
	.equ	F_PARAMS, ARGS + 20	@ from the start of a block

	.equ	MW_R, 0
	.equ	MW_Z, 2
	.equ	MW_N, 4
	.equ	MU_R, 6
	.equ	MU_Z, 8
	.equ	MU_N, 10
	.equ	B_R, 12
	.equ	B_Z, 14
	.equ	B_NX, 16
	.equ	B_NH, 18

	@ b + req(acc) of unit \u to \slot; r1 = parameters of the block. Clobbers r2, r3, r12, lr.
	.macro	ROW acc, u, mul, bias, slot
	ldrh	r2, [r1, #\mul + 20 * \u]
	ldrsh	r3, [r1, #\bias + 20 * \u]
	REQ	r3, \acc, r2
	str	r3, [sp, #\slot + 4 * \u]
	.endm

	.macro	ROWS a, b, c, d, mul, bias, slot
	ROW	\a, 0, \mul, \bias, \slot
	ROW	\b, 1, \mul, \bias, \slot
	ROW	\c, 2, \mul, \bias, \slot
	ROW	\d, 3, \mul, \bias, \slot
	.endm

	@ The gates of unit \u from the sums \r and \z; r0 = parameters, r1 = middle of the table.
	@ Clobbers r2, r3, r12, lr, \r, \z.
	.macro	UNIT u, r, z
	ldrh	r2, [r0, #MU_R + 20 * \u]
	ldr	r3, [sp, #F_VR + 4 * \u]
	REQ	r3, \r, r2
	TANH	r3, r3
	add	r3, r3, #32768		@ r
	ldr	r2, [sp, #F_NH + 4 * \u]
	ldr	r12, [sp, #F_SHIFT]
	ldr	lr, [sp, #F_NX + 4 * \u]
	mul	r3, r3, r2
	asr	r3, r3, r12
	add	r3, r3, lr
	TANH	r3, r3			@ n
	ldrh	\r, [r0, #MU_Z + 20 * \u]
	ldr	r2, [sp, #F_VZ + 4 * \u]
	REQ	r2, \z, \r
	TANH	r2, r2
	add	r2, r2, #32768		@ z
	ldr	r12, [sp, #F_HP]
	ldr	lr, [sp, #F_OUT]
	ldrsh	r12, [r12, #2 * \u]
	sub	r12, r12, r3		@ n + z (h - n), rounded
	mul	r12, r12, r2
	add	r12, r12, r3, lsl #16
	add	r12, r12, #32768
	asr	r12, r12, #16
	strh	r12, [lr, #2 * \u]
	.endm

	.global	gru_quad_gru
	.type	gru_quad_gru, %function
	.p2align 2
	.thumb_func
gru_quad_gru:
	push	{r4-r11, lr}
	sub	sp, #FRAME
	add	r12, sp, #F_BLOCK
	stm	r12, {r0-r3}
	@ The table is indexed from its middle.
	ldr	r12, [sp, #F_TABLE]
	add	r12, r12, #1024
	str	r12, [sp, #F_TABLE]
	ldr	r6, [sp, #F_XEND]
	ldr	r7, [sp, #F_HEND]
	@ Entries into the loops; r6, r7 hold the numbers of pairs of columns.
	lsl	r0, r6, #1
	ENTRY	r2, r3, r0, .Lloop8, 68, 15
	str	r2, [sp, #F_X8]
	ENTRY	r2, r3, r6, .Lloop4, 72, 7
	str	r2, [sp, #F_X4]
	lsl	r0, r7, #1
	ENTRY	r2, r3, r0, .Lloop8, 68, 15
	str	r2, [sp, #F_H8]
	ENTRY	r2, r3, r7, .Lloop4, 72, 7
	str	r2, [sp, #F_H4]
	@ Ends of x and h; the sums over both run to whole double words, padded with zeros.
	ldr	r0, [sp, #F_X]
	add	r2, r0, r6, lsl #2
	str	r2, [sp, #F_XEND]
	adds	r6, #1
	bic	r6, r6, #1
	add	r1, r0, r6, lsl #2
	ldr	r8, [sp, #F_H]
	str	r8, [sp, #F_HP]
	add	r2, r8, r7, lsl #2
	str	r2, [sp, #F_HEND]
	adds	r7, #1
	bic	r7, r7, #1
	add	r2, sp, #F_IX
	bl	.Linit
	mov	r0, r8
	add	r1, r0, r7, lsl #2
	bl	.Linit			@ r2 is at F_IH
	ldr	r0, [sp, #F_BLOCK]

.Lblock:
	@ W x, reset and update.
	ldr	r1, [sp, #F_X]
	ldr	r3, [sp, #F_XEND]
	ldr	r12, [sp, #F_X8]
	add	r2, sp, #F_IX
	bl	.Lmac8
	ldr	r1, [sp, #F_BLOCK]
	ldr	r2, [sp, #F_PARAMS]
	add	r1, r1, r2
	str	r1, [sp, #F_BLOCK]	@ parameters from here on
	ROWS	r4, r5, r6, r7, MW_R, B_R, F_VR
	ROWS	r8, r9, r10, r11, MW_Z, B_Z, F_VZ
	@ W x, candidate.
	ldr	r1, [sp, #F_X]
	ldr	r3, [sp, #F_XEND]
	ldr	r12, [sp, #F_X4]
	add	r2, sp, #F_IX
	bl	.Lmac4
	str	r0, [sp, #F_U]
	ldr	r1, [sp, #F_BLOCK]
	ROWS	r4, r5, r6, r7, MW_N, B_NX, F_NX
	@ U h, candidate: behind the two words a column of the others.
	ldr	r1, [sp, #F_H]
	ldr	r3, [sp, #F_HEND]
	ldr	r12, [sp, #F_H4]
	sub	r2, r3, r1
	add	r0, r0, r2, lsl #2
	add	r2, sp, #F_IH
	bl	.Lmac4
	ldr	r1, [sp, #F_BLOCK]
	.macro	NH acc, u
	ldrh	r2, [r1, #MU_N + 20 * \u]
	ldrsh	r3, [r1, #B_NH + 20 * \u]
	REQ	r3, \acc, r2
	ssat	r3, #16, r3
	str	r3, [sp, #F_NH + 4 * \u]
	.endm
	NH	r4, 0
	NH	r5, 1
	NH	r6, 2
	NH	r7, 3
	@ U h, reset and update.
	ldr	r0, [sp, #F_U]
	ldr	r1, [sp, #F_H]
	ldr	r3, [sp, #F_HEND]
	ldr	r12, [sp, #F_H8]
	add	r2, sp, #F_IH
	bl	.Lmac8
	ldr	r0, [sp, #F_BLOCK]
	ldr	r1, [sp, #F_TABLE]
	UNIT	0, r4, r8
	UNIT	1, r5, r9
	UNIT	2, r6, r10
	UNIT	3, r7, r11
	adds	r0, #80
	str	r0, [sp, #F_BLOCK]
	ldr	r1, [sp, #F_HP]
	ldr	r2, [sp, #F_OUT]
	ldr	r3, [sp, #F_BLOCKS]
	adds	r1, #8
	str	r1, [sp, #F_HP]
	adds	r2, #8
	str	r2, [sp, #F_OUT]
	subs	r3, #1
	str	r3, [sp, #F_BLOCKS]
	bne	.Lblock
	add	sp, #FRAME
	pop	{r4-r11, pc}
	.p2align 2
	.ltorg
	.size	gru_quad_gru, . - gru_quad_gru

@ ---- Dense layer -----------------------------------------------------------------------

	.equ	D_W, 0		@ arguments, as struct DenseArgs has them
	.equ	D_X, 4
	.equ	D_OUT, 8
	.equ	D_PARAMS, 12
	.equ	D_XEND, 16
	.equ	D_QUADS, 20
	.equ	D_ENTRY, 24
	.equ	D_IX, 28
	.equ	D_FRAME, 44

	@ sat16(bias + floor(acc * m / 2^32)) of row \row; r1 -> parameters, r3 -> out.
	.macro	DENSE_ROW acc, row
	ldr	r12, [r1, #8 * \row]
	ldr	r2, [r1, #8 * \row + 4]
	smull	lr, r12, \acc, r12
	add	r2, r2, r12
	ssat	r2, #16, r2
	strh	r2, [r3, #2 * \row]
	.endm

	.global	gru_quad_dense
	.type	gru_quad_dense, %function
	.p2align 2
	.thumb_func
gru_quad_dense:
	push	{r4-r11, lr}
	sub	sp, #D_FRAME
	ldm	r0, {r2-r7}
	mov	r12, sp
	stm	r12, {r2-r7}
	@ r6 = pairs of columns.
	ENTRY	r2, r12, r6, .Lloop4, 72, 7
	str	r2, [sp, #D_ENTRY]
	mov	r0, r3
	add	r1, r0, r6, lsl #2
	str	r1, [sp, #D_XEND]
	adds	r6, #1
	bic	r6, r6, #1
	add	r1, r0, r6, lsl #2
	add	r2, sp, #D_IX
	bl	.Linit
	ldr	r0, [sp, #D_W]
.Lquad:
	ldr	r1, [sp, #D_X]
	ldr	r3, [sp, #D_XEND]
	ldr	r12, [sp, #D_ENTRY]
	add	r2, sp, #D_IX
	bl	.Lmac4
	ldr	r1, [sp, #D_PARAMS]
	ldr	r3, [sp, #D_OUT]
	DENSE_ROW r4, 0
	DENSE_ROW r5, 1
	DENSE_ROW r6, 2
	DENSE_ROW r7, 3
	adds	r1, #32
	str	r1, [sp, #D_PARAMS]
	adds	r3, #8
	str	r3, [sp, #D_OUT]
	ldr	r1, [sp, #D_QUADS]
	subs	r1, #1
	str	r1, [sp, #D_QUADS]
	bne	.Lquad
	add	sp, #D_FRAME
	pop	{r4-r11, pc}
	.p2align 2
	.ltorg
	.size	gru_quad_dense, . - gru_quad_dense

@ ---- around the layers -----------------------------------------------------------------

	@ Conditions r3 >= 1 counts of 16 bits at r1, whose features are narrow, to r2; r0 -> features:
	@ offset (4), counts per unit (4), multiplier (2), shift (1), zero (1).
	.section .text.gru_quad_condition_narrow, "ax", %progbits
	.global	gru_quad_condition_narrow
	.type	gru_quad_condition_narrow, %function
	.p2align 2
	.thumb_func
gru_quad_condition_narrow:
	push	{r4-r6, lr}
	movs	r6, #1
1:	ldr	r5, [r0, #8]
	ldrsh	r4, [r1], #2
	ldr	r12, [r0], #12
	uxth	lr, r5
	sub	r4, r4, r12
	lsrs	r5, r5, #16
	mul	r4, r4, lr
	lsl	r12, r6, r5
	subs	r3, #1
	add	r4, r4, r12, lsr #1
	asr	r4, r4, r5
	ssat	r4, #16, r4
	strh	r4, [r2], #2
	bne	1b
	pop	{r4-r6, pc}
	.size	gru_quad_condition_narrow, . - gru_quad_condition_narrow

	@ Copies r2 double words from r0 to r1.
	.section .text.gru_quad_copy, "ax", %progbits
	.global	gru_quad_copy
	.type	gru_quad_copy, %function
	.p2align 2
	.thumb_func
gru_quad_copy:
	push	{r4-r6, lr}
	lsrs	r2, r2, #1
	bcc	1f
	ldm	r0!, {r3, r4}
	stm	r1!, {r3, r4}
1:	cmp	r2, #0
	beq	3f
2:	ldm	r0!, {r3-r6}
	stm	r1!, {r3-r6}
	subs	r2, #1
	bne	2b
3:	pop	{r4-r6, pc}
	.size	gru_quad_copy, . - gru_quad_copy
