@ GRU and Dense layers on the Winograd layout for ARMv7-M (Cortex-M3).
@
@ The words are those of quad_v6m.s, whose head explains how four shifts of a word give four mixed
@ rows whose sums separate. Here a pair of columns costs one multiplication a row (Winograd 1968):
@
@   v1 x1 + v2 x2 = (v1 + x2) (v2 + x1) - v1 v2 - x1 x2
@
@ modulo 2^32, with v the word shifted right by 24, 16, 8 or 0: an addition shifts its operand for
@ nothing. The sums of the v1 v2 stand, negative, in front of a gate's words; that of the x1 x2 is
@ worked out once a step. SSAT saturates. No branch depends on data.

	.syntax unified
	.thumb

@ ---- multiply-accumulate ----------------------------------------------------------------

	@ Two columns of four rows: 21 cycles, 64 bytes.
	.macro	PAIR
	ldrsh	r2, [r1], #2
	ldrsh	r3, [r1], #2
	ldr	r8, [r0], #4
	ldr	r9, [r0], #4
	add.w	r10, r3, r8
	add.w	r11, r2, r9
	mla	r4, r10, r11, r4
	add	r10, r3, r8, asr #8
	add	r11, r2, r9, asr #8
	mla	r5, r10, r11, r5
	add	r10, r3, r8, asr #16
	add	r11, r2, r9, asr #16
	mla	r6, r10, r11, r6
	add	r10, r3, r8, asr #24
	add	r11, r2, r9, asr #24
	mla	r7, r10, r11, r7
	.endm

	.section .text.gru_quad, "ax", %progbits

	@ Sums of four rows. r0 weights, r1 x, r2 -> four constants of x, r3 entry into the loop, r12
	@ end of x. .Lmore goes on from the sums in r4-r7. Returns r0 after the weights; the rows, still mixed, in r4-r7. Clobbers
	@ r1-r3, r8-r11.
	.p2align 2
	.thumb_func
.Lmac:
	ldm	r0!, {r4-r7}
	ldm	r2, {r8-r11}
	add	r4, r4, r8
	add	r5, r5, r9
	add	r6, r6, r10
	add	r7, r7, r11
	bx	r3
	.p2align 2
	.thumb_func
.Lmore:
	ldm	r0!, {r8-r11}
	add	r4, r4, r8
	add	r5, r5, r9
	add	r6, r6, r10
	add	r7, r7, r11
	ldm	r2, {r8-r11}
	add	r4, r4, r8
	add	r5, r5, r9
	add	r6, r6, r10
	add	r7, r7, r11
	bx	r3
	.p2align 2
	.thumb_func
.Lloop:
	.rept	8
	PAIR
	.endr
	cmp	r1, r12
	bne	.Lloop
	bx	lr

	@ Takes the mixed sums apart.
	.macro	APART
	sub	r4, r4, r5, lsl #8
	sub	r5, r5, r6, lsl #8
	sub	r6, r6, r7, lsl #8
	.endm

	@ The constants of the x from r0 to r1 (a multiple of two words), stored at r2, which moves on:
	@ what takes off the bias of 128, and the sum of the products of pairs. Clobbers r0, r3-r7.
	.p2align 2
	.thumb_func
.Linit:
	movs	r5, #0
	movs	r7, #0
2:	ldm	r0!, {r3, r4}
	sxth	r6, r3
	asrs	r3, r3, #16
	add	r5, r5, r6
	add	r5, r5, r3
	mla	r7, r6, r3, r7
	sxth	r6, r4
	asrs	r4, r4, #16
	add	r5, r5, r6
	add	r5, r5, r4
	mla	r7, r6, r4, r7
	cmp	r0, r1
	bne	2b
	lsls	r5, r5, #7
	negs	r5, r5
	add	r4, r5, r5, lsl #8
	add	r3, r5, r4, lsl #8
	subs	r3, r3, r7
	subs	r4, r4, r7
	subs	r5, r5, r7
	negs	r6, r7
	stm	r2!, {r3-r6}
	bx	lr

	@ \out = address of the entry into the loop for \pairs >= 1 pairs: the first pass does what is
	@ left over from a multiple of eight.
	.macro	ENTRY out, t, pairs
	rsb	\out, \pairs, #0
	and	\out, \out, #7
	ldr	\t, =.Lloop
	add	\out, \t, \out, lsl #6
	orr	\out, \out, #1
	.endm

@ ---- arithmetic ------------------------------------------------------------------------

	@ \out += floor(acc * m / 2^16), m < 2^15. Clobbers r12, \acc.
	.macro	REQ out, acc, m
	asr	r12, \acc, #16
	uxth	\acc, \acc
	mul	r12, r12, \m
	mul	\acc, \acc, \m
	add	\out, \out, r12
	add	\out, \out, \acc, lsr #16
	.endm

	@ v = tanh of sat16(v) in the upper half; r8 = middle of the table, whose ends are flat. Clobbers r12, lr.
	.macro	TANH v
	ssat	r12, #9, \v, asr #7
	and	\v, \v, #127
	ldr	r12, [r8, r12, lsl #2]
	sxth	lr, r12
	mul	lr, lr, \v
	add	\v, r12, lr, lsl #8
	.endm

@ ---- GRU layer -------------------------------------------------------------------------

	.equ	F_PARAM, 0	@ the first four arguments; the first one becomes the parameters
	.equ	F_X, 4
	.equ	F_H, 8
	.equ	F_OUT, 12
	.equ	F_XE, 16	@ entries into the loop
	.equ	F_HE, 20
	.equ	F_HP, 24	@ h of the block's units
	.equ	F_U, 28		@ the next weights of U
	.equ	F_IX, 32	@ four constants of x
	.equ	F_IH, 48	@ and of h
	.equ	F_R, 64		@ four units each
	.equ	F_Z, 80
	.equ	F_NX, 96
	.equ	F_XEND, 112
	.equ	F_HEND, 116
	.equ	F_SHIFT, 120	@ of the reset product
	.equ	F_PARAMS, 124	@ from the start of a block
	.equ	F_WSHIFT, 128
	.equ	FRAME, 132
	.equ	A_LAYER, FRAME + 36	@ the other arguments, behind the saved registers
	.equ	F_TABLE, A_LAYER + 4
	.equ	F_BLOCKS, A_LAYER	@ then: of four units

	@ In a GruLayer.
	.equ	G_INPUT, 8
	.equ	G_UNITS, 10
	.equ	G_NH_SHIFT, 13
	.equ	G_W_SHIFT, 14

	.equ	MU_R, 0
	.equ	MU_Z, 2
	.equ	MW_N, 4
	.equ	MU_N, 6
	.equ	B_R, 8
	.equ	B_Z, 10
	.equ	B_NX, 12
	.equ	B_NH, 14

	@ The sums of four rows over x or h.
	.macro	SUMS x, end, entry, init, way=.Lmac
	ldr	r1, [sp, #\x]
	ldr	r12, [sp, #\end]
	ldr	r3, [sp, #\entry]
	add	r2, sp, #\init
	bl	\way
	.endm

	@ The sums of a gate: those over h on top of the shifted ones over x. r0 = weights of W, which
	@ run on; those of U are at F_U. Returns r1 = parameters.
	.macro	GATE_SUMS
	SUMS	F_X, F_XEND, F_XE, F_IX
	ldr	r1, [sp, #F_WSHIFT]
	mov	r12, r0
	ldr	r0, [sp, #F_U]
	str	r12, [sp, #F_U]
	lsls	r4, r1
	lsls	r5, r1
	lsls	r6, r1
	lsls	r7, r1
	SUMS	F_H, F_HEND, F_HE, F_IH, .Lmore
	ldr	r12, [sp, #F_U]
	str	r0, [sp, #F_U]
	mov	r0, r12
	ldr	r1, [sp, #F_PARAM]
	APART
	.endm

	@ b + req(acc) of units \u and \u + 1 to \slot; r1 = parameters. Clobbers r2, r3, r8, r9, r12.
	.macro	ROWS a, b, u, mul, bias, slot
	ldrh	r2, [r1, #\mul + 16 * \u]
	ldrsh	r3, [r1, #\bias + 16 * \u]
	ldrh	r8, [r1, #\mul + 16 * \u + 16]
	ldrsh	r9, [r1, #\bias + 16 * \u + 16]
	REQ	r3, \a, r2
	REQ	r9, \b, r8
	str	r3, [sp, #\slot + 4 * \u]
	str	r9, [sp, #\slot + 4 * \u + 4]
	.endm

	@ The gates (Q16) of units \u and \u + 1 to \slot; r1 = parameters, r8 = table.
	@ Clobbers r2, r3, r9, r10, r12, lr.
	.macro	GATES a, b, u, mul, bias, slot
	ldrh	r2, [r1, #\mul + 16 * \u]
	ldrsh	r3, [r1, #\bias + 16 * \u]
	ldrh	r9, [r1, #\mul + 16 * \u + 16]
	ldrsh	r10, [r1, #\bias + 16 * \u + 16]
	REQ	r3, \a, r2
	REQ	r10, \b, r9
	TANH	r3
	TANH	r10
	eor	r3, r3, #0x80000000
	eor	r10, r10, #0x80000000
	lsrs	r3, r3, #16
	lsr	r10, r10, #16
	str	r3, [sp, #\slot + 4 * \u]
	str	r10, [sp, #\slot + 4 * \u + 4]
	.endm

	@ The new state of unit \u; r1 = parameters, r8 = table, r9 = shift, r10 -> h, r11 -> out.
	.macro	UNIT a, u
	ldrh	r2, [r1, #MU_N + 16 * \u]
	ldrsh	r3, [r1, #B_NH + 16 * \u]
	ldr	lr, [sp, #F_R + 4 * \u]
	REQ	r3, \a, r2
	ssat	r3, #16, r3
	mul	r3, r3, lr
	ldr	lr, [sp, #F_NX + 4 * \u]
	ldr	r2, [sp, #F_Z + 4 * \u]
	ldrsh	\a, [r10, #2 * \u]
	asr	r3, r3, r9
	add	r3, r3, lr
	TANH	r3
	asrs	r3, r3, #16
	sub	\a, \a, r3		@ n + z (h - n), rounded
	mul	\a, \a, r2
	add	\a, \a, r3, lsl #16
	add	\a, \a, #32768
	asr	\a, \a, #16
	strh	\a, [r11, #2 * \u]
	.endm

	.global	gru_quad_gru
	.type	gru_quad_gru, %function
	.p2align 2
	.thumb_func
gru_quad_gru:
	push	{r4-r11, lr}
	sub	sp, #FRAME
	stm	sp, {r0-r3}
	@ The table is indexed from its middle.
	ldr	r12, [sp, #F_TABLE]
	add	r12, r12, #1024
	str	r12, [sp, #F_TABLE]
	ldr	r4, [sp, #A_LAYER]
	ldrb	r5, [r4, #G_NH_SHIFT]
	rsb	r5, r5, #16
	str	r5, [sp, #F_SHIFT]
	ldrb	r5, [r4, #G_W_SHIFT]
	str	r5, [sp, #F_WSHIFT]
	ldrh	r6, [r4, #G_INPUT]
	ldrh	r7, [r4, #G_UNITS]
	adds	r5, r7, #3
	lsrs	r5, r5, #2
	str	r5, [sp, #F_BLOCKS]
	@ Pairs of columns; a block has three heads and three words a column for each part.
	adds	r6, #1
	lsrs	r6, r6, #1
	adds	r7, #1
	lsrs	r7, r7, #1
	adds	r5, r6, r7
	add	r5, r5, r5, lsl #1
	lsls	r5, r5, #3
	adds	r5, #96
	str	r5, [sp, #F_PARAMS]
	ENTRY	r4, r5, r6
	str	r4, [sp, #F_XE]
	ENTRY	r4, r5, r7
	str	r4, [sp, #F_HE]
	@ Ends of x and h; the constants of both run to whole double words, padded with zeros.
	mov	r8, r2
	mov	r9, r7
	str	r2, [sp, #F_HP]
	add	r4, r2, r7, lsl #2
	str	r4, [sp, #F_HEND]
	mov	r0, r1
	add	r4, r0, r6, lsl #2
	str	r4, [sp, #F_XEND]
	adds	r6, #1
	bic	r6, r6, #1
	add	r1, r0, r6, lsl #2
	add	r2, sp, #F_IX
	bl	.Linit
	mov	r0, r8
	add	r9, r9, #1
	bic	r9, r9, #1
	add	r1, r0, r9, lsl #2
	bl	.Linit			@ r2 is at F_IH
	ldr	r0, [sp, #F_PARAM]

.Lblock:
	ldr	r1, [sp, #F_PARAMS]
	add	r1, r1, r0
	str	r1, [sp, #F_PARAM]
	@ The weights of U: those of W are as many gates' heads and words of x.
	ldr	r2, [sp, #F_X]
	ldr	r3, [sp, #F_XEND]
	sub	r3, r3, r2
	add	r2, r0, r3, lsl #2
	add	r2, r2, r3, lsl #1
	adds	r2, #48
	str	r2, [sp, #F_U]
	GATE_SUMS
	ldr	r8, [sp, #F_TABLE]
	GATES	r4, r5, 0, MU_R, B_R, F_R
	GATES	r6, r7, 2, MU_R, B_R, F_R
	GATE_SUMS
	ldr	r8, [sp, #F_TABLE]
	GATES	r4, r5, 0, MU_Z, B_Z, F_Z
	GATES	r6, r7, 2, MU_Z, B_Z, F_Z
	SUMS	F_X, F_XEND, F_XE, F_IX
	ldr	r1, [sp, #F_PARAM]
	APART
	ROWS	r4, r5, 0, MW_N, B_NX, F_NX
	ROWS	r6, r7, 2, MW_N, B_NX, F_NX
	ldr	r0, [sp, #F_U]
	SUMS	F_H, F_HEND, F_HE, F_IH
	ldr	r1, [sp, #F_PARAM]
	APART
	ldr	r8, [sp, #F_TABLE]
	ldr	r9, [sp, #F_SHIFT]
	ldr	r10, [sp, #F_HP]
	ldr	r11, [sp, #F_OUT]
	UNIT	r4, 0
	UNIT	r5, 1
	UNIT	r6, 2
	UNIT	r7, 3
	ldr	r3, [sp, #F_BLOCKS]
	add	r0, r1, #64
	add	r10, r10, #8
	add	r11, r11, #8
	subs	r3, #1
	str	r10, [sp, #F_HP]
	str	r11, [sp, #F_OUT]
	str	r3, [sp, #F_BLOCKS]
	bne	.Lblock
	add	sp, #FRAME
	pop	{r4-r11, pc}
	.p2align 2
	.ltorg
	.size	gru_quad_gru, . - gru_quad_gru

@ ---- Dense layer -----------------------------------------------------------------------

	.equ	D_W, 0
	.equ	D_X, 4
	.equ	D_OUT, 8
	.equ	D_PARAMS, 12
	.equ	D_XEND, 16
	.equ	D_QUADS, 20
	.equ	D_ENTRY, 24
	.equ	D_IX, 28
	.equ	D_FRAME, 44

	@ In a DenseLayer.
	.equ	L_INPUT, 8
	.equ	L_UNITS, 10

	@ sat16(bias + floor(acc * m / 2^32)) of row \row; r1 -> parameters, r3 -> out.
	.macro	DENSE_ROW acc, row
	ldr	r12, [r1, #8 * \row]
	ldr	r2, [r1, #8 * \row + 4]
	smull	r8, r12, \acc, r12
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
	ldrh	r6, [r3, #L_INPUT]
	ldrh	r7, [r3, #L_UNITS]
	adds	r6, #1
	lsrs	r6, r6, #1		@ pairs of columns
	adds	r7, #3
	lsrs	r7, r7, #2
	str	r7, [sp, #D_QUADS]
	@ Four rows: a head and a word a column.
	lsls	r4, r6, #3
	adds	r4, #16
	mla	r3, r4, r7, r0
	stm	sp, {r0-r3}
	ENTRY	r2, r12, r6
	str	r2, [sp, #D_ENTRY]
	mov	r0, r1
	add	r1, r0, r6, lsl #2
	str	r1, [sp, #D_XEND]
	adds	r6, #1
	bic	r6, r6, #1
	add	r1, r0, r6, lsl #2
	add	r2, sp, #D_IX
	bl	.Linit
	ldr	r0, [sp, #D_W]
.Lquad:
	SUMS	D_X, D_XEND, D_ENTRY, D_IX
	APART
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
