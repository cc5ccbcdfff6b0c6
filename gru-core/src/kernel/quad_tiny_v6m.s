@ GRU and Dense layers on the Quad layout for ARMv6-M (Cortex-M0, M0+) in a third of the code of `quad_v6m.s`, for programs
@ that are optimized for size. That file explains the words and their sums, which are the same here.
@
@ There is one loop over the columns of eight rows, for the input and the state of each of a block's three groups of rows; it
@ leaves the rows' sums in the frame. Then one loop over the units does with four sums of each what is left. The new state is
@ put together in the buffer. tanh reads `tanh_nodes.rs`.
@
@ No branch and no address but those of the tanh table depends on data.

	.section .text.gru_quad, "ax", %progbits

	@ First the sums of r and z of four units, those of the next four 16 bytes on.
	.equ	F_N, 32		@ the candidate's of eight units, over the input and over the state; those of r and z may reach the first four
	.equ	F_X, 96		@ of the input and of the state: the end, minus its length in bytes, -128 times its sum
	.equ	F_H, 108
	.equ	F_SHIFT, 120	@ of the reset product
	.equ	F_AT, 124	@ the next state
	.equ	F_OUT, 128	@ from there to where the new one goes
	.equ	F_W, 132	@ the next weights
	.equ	FRAME, 136
	.equ	A_LAYER, FRAME + 36	@ the arguments behind the saved registers
	.equ	A_TABLE, A_LAYER + 4

	@ In a GruLayer.
	.equ	G_INPUT, 8
	.equ	G_UNITS, 10
	.equ	G_NH_SHIFT, 13
	.equ	G_W_SHIFT, 14

	@ Separates the sums of four rows, the first one in a low register, and stores them from r1. Clobbers r2-r6.
	.macro	SEPARATE a, b, c, d
	mov	r3, \b
	lsls	r2, r3, #8
	subs	r2, \a, r2
	mov	r4, \c
	lsls	r5, r4, #8
	subs	r3, r3, r5
	mov	r5, \d
	lsls	r6, r5, #8
	subs	r4, r4, r6
	stm	r1!, {r2, r3, r4, r5}
	.endm

	@ Shifts a high register to the left by r4. Clobbers r3.
	.macro	SHIFT a
	mov	r3, \a
	lsls	r3, r4
	mov	\a, r3
	.endm

	@ r3 values from r1: where they end, minus their length, -128 times their sum; to r4, which moves on. Clobbers r1-r3, r5, r6.
	.p2align 2
	.thumb_func
.Lpart:
	lsls	r3, r3, #1
	adds	r1, r1, r3
	negs	r3, r3
	movs	r6, r3
	movs	r5, #0
1:	ldrsh	r2, [r1, r6]
	adds	r5, r5, r2
	adds	r6, #2
	bne	1b
	lsls	r5, r5, #7
	negs	r5, r5
	stm	r4!, {r1, r3, r5}
	bx	lr

	.global	gru_quad_gru
	.type	gru_quad_gru, %function
	.thumb_func
gru_quad_gru:
	push	{r4-r7, lr}
	mov	r4, r8
	mov	r5, r9
	mov	r6, r10
	mov	r7, r11
	push	{r4-r7}
	sub	sp, #FRAME
	str	r2, [sp, #F_AT]
	subs	r3, r3, r2
	str	r3, [sp, #F_OUT]
	ldr	r7, [sp, #A_LAYER]
	add	r4, sp, #F_X
	ldrh	r3, [r7, #G_INPUT]
	bl	.Lpart
	ldr	r1, [sp, #F_AT]
	ldrh	r3, [r7, #G_UNITS]
	bl	.Lpart
	ldrb	r2, [r7, #G_NH_SHIFT]
	movs	r1, #16
	subs	r1, r1, r2
	str	r1, [r4]
	@ Eight units: the candidate's rows of all, then reset and update of four and four; parameters behind all of them.
.Lblock:
	add	r7, sp, #F_N
	bl	.Lrows
	mov	r7, sp
	bl	.Lrows
	str	r0, [sp, #F_W]
	ldr	r2, [sp, #F_X + 4]
	ldr	r3, [sp, #F_H + 4]
	adds	r2, r2, r3
	lsls	r2, r2, #2
	subs	r0, r0, r2
	bl	.Lunits
	bhs	1f
	ldr	r0, [sp, #F_W]
	bl	.Lrows
	adds	r0, #64
	bl	.Lunits
	blo	.Lblock
	@ The new state in the place of the old one.
1:	ldr	r1, [sp, #F_H]
	ldr	r2, [sp, #F_H + 4]
	adds	r1, r1, r2
	ldr	r2, [sp, #F_OUT]
	ldr	r4, [sp, #F_AT]
2:	ldr	r3, [r1, r2]
	stm	r1!, {r3}
	cmp	r1, r4
	bne	2b
	add	sp, #FRAME
	pop	{r4-r7}
	mov	r8, r4
	mov	r9, r5
	mov	r10, r6
	mov	r11, r7
	pop	{r4-r7, pc}

	@ Eight rows over the input and over the state: weights from r0, which moves on, sums to r7. The candidate's are those at F_N,
	@ over each of the two; those of r and z are over both. Leaves r7 - 32 where the last eight of them end; clobbers all others.
.Lrows:
	push	{lr}
	add	r1, sp, #F_X + 4
1:	ldm	r1!, {r2, r3, r5}
	add	r4, sp, #F_N + 4
	subs	r4, r4, r7
	push	{r1, r2, r4, r7}
	bls	2f
	@ Those of r and z go on over the state, so they start with both: -128 times a sum is a multiple of 2^w_shift.
	ldr	r4, [sp, #F_H + 8 + 20]
	ldr	r6, [sp, #A_LAYER + 20]
	ldrb	r6, [r6, #G_W_SHIFT]
	asrs	r4, r6
	adds	r5, r5, r4
2:	movs	r1, r3
	lsls	r6, r5, #8
	adds	r6, r6, r5
	mov	r8, r6
	mov	r11, r6
	lsls	r6, r6, #8
	adds	r6, r6, r5
	movs	r7, r6
	mov	r9, r5
	mov	r12, r5
	movs	r5, #0
	mov	r10, r5
	mov	lr, r5
3:	ldr	r5, [sp, #4]
	ldrsh	r2, [r5, r1]
	ldm	r0!, {r3, r4}
	MAC4	r3, r2, r5, r6, r8, r9, r10
	MAC4	r4, r2, r5, r7, r11, r12, lr
	adds	r1, #2
	bne	3b
	ldr	r1, [sp, #12]
	ldr	r4, [sp, #8]
	cmp	r4, #0
	ble	4f
	ldr	r5, [sp]
	ldm	r5!, {r1, r2, r3}
	str	r5, [sp]
	str	r1, [sp, #4]
	str	r2, [sp, #8]		@ not once more
	ldr	r4, [sp, #A_LAYER + 20]
	ldrb	r4, [r4, #G_W_SHIFT]
	lsls	r6, r4
	lsls	r7, r4
	SHIFT	r8
	SHIFT	r9
	SHIFT	r10
	SHIFT	r11
	SHIFT	r12
	SHIFT	lr
	movs	r1, r2
	b	3b
4:	SEPARATE r6, r8, r9, r10
	SEPARATE r7, r11, r12, lr
	movs	r7, r1
	pop	{r1-r4}
	add	r2, sp, #F_SHIFT + 4
	cmp	r1, r2
	bne	1b
	subs	r7, #32
	pop	{pc}

	@ Four units from the sums at r7, parameters from r0; both move on. The flags: whether there are no more (hs).
.Lunits:
	push	{lr}
	ldr	r1, [sp, #A_TABLE + 4]
	movs	r2, #128
	lsls	r2, r2, #8
	mov	r12, r2
	adds	r2, r2, r2
	subs	r2, #1
	mov	r11, r2
1:	bl	.Lgate
	mov	r8, r6
	adds	r7, #16
	bl	.Lgate
	mov	r9, r6
	ldr	r6, [r7, #F_N - 16]
	bl	.Lrow
	mov	r10, r6
	ldr	r6, [r7, #F_N + 16]
	bl	.Lrow
	bl	.Lclamp			@ leaves 32768 in r2
	add	r2, r8			@ r
	muls	r6, r2, r6
	ldr	r3, [sp, #F_SHIFT + 4]
	asrs	r6, r3
	add	r6, r10
	bl	.Ltanh			@ n
	mov	r5, r9
	add	r5, r12			@ z
	ldr	r4, [sp, #F_AT + 4]	@ n + z (h - n), rounded
	ldrh	r2, [r4]
	sxth	r2, r2
	subs	r2, r2, r6
	muls	r2, r5, r2
	asrs	r2, r2, #16		@ modulo 2^16; leaves what rounds in the carry
	adcs	r2, r6
	ldr	r3, [sp, #F_OUT + 4]
	strh	r2, [r4, r3]
	adds	r4, #2
	str	r4, [sp, #F_AT + 4]
	adds	r0, #8
	mov	r2, sp			@ 4 below where the sums begin
	subs	r2, r7, r2
	subs	r7, #12
	lsls	r2, r2, #28
	bne	1b
	ldr	r2, [sp, #F_H + 4]
	cmp	r4, r2
	pop	{pc}

	@ r6 = acc to b + 32768 + floor(acc * m / 2^16); r0 -> m, and moves on. Clobbers r2, r3.
.Lrow:
	ldrh	r2, [r0]
	asrs	r3, r6, #16
	uxth	r6, r6
	muls	r3, r2, r3
	muls	r6, r2, r6
	lsrs	r6, r6, #16
	adds	r6, r6, r3
	ldrh	r2, [r0, #8]
	adds	r6, r6, r2
	adds	r0, #2
	bx	lr

	@ r6 = sat16 of r6 - 32768. Clobbers r5; r2 = 32768.
.Lclamp:
	mov	r5, r11
	CLAMP	r6, r2, r5
	uxth	r6, r6
	mov	r2, r12
	subs	r6, r6, r2
	bx	lr

	@ r6 = tanh of r6 - 32768, see `tanh_of_nodes`; r1 = table. Clobbers r2-r5.
.Ltanh:
	push	{lr}
	b	1f
	@ r6 = tanh of a gate's row with the sums at r7.
.Lgate:
	push	{lr}
	ldr	r6, [r7]
	bl	.Lrow
1:	bl	.Lclamp
	mov	lr, r6
	asrs	r2, r6, #31
	eors	r6, r2
	lsrs	r3, r6, #7
	ldrb	r4, [r1, r3]
	lsls	r3, r3, #1
	adds	r3, r3, r1
	adds	r3, #254
	ldrh	r5, [r3, #2]
	ldrh	r3, [r3, #4]
	subs	r3, r3, r5
	movs	r6, r3
	ands	r6, r2
	adds	r5, r5, r6
	eors	r5, r2
	lsrs	r6, r4, #6
	ands	r6, r2
	adds	r5, r5, r6
	movs	r6, #3
	ands	r2, r6
	lsrs	r4, r2
	movs	r6, #7
	ands	r4, r6
	lsls	r3, r3, #1
	adds	r3, r3, r4
	subs	r3, #2
	mov	r6, lr
	lsls	r6, r6, #25
	lsrs	r6, r6, #17
	muls	r6, r3, r6
	adds	r6, r6, r3
	asrs	r6, r6, #16
	adds	r6, r6, r5
	pop	{pc}
	.size	gru_quad_gru, . - gru_quad_gru

@ ---- Dense layer, row by row ------------------------------------------------------------

	.equ	D_ROW, 0	@ the row's first weight
	.equ	D_OUT, 4	@ where the next value goes
	.equ	D_END, 8	@ where they end
	.equ	D_PARAMS, 12	@ the next row's
	.equ	D_FRAME, 16

	@ In a DenseLayer.
	.equ	L_INPUT, 8
	.equ	L_UNITS, 10

	.global	gru_quad_dense
	.type	gru_quad_dense, %function
	.thumb_func
gru_quad_dense:
	push	{r4-r7, lr}
	sub	sp, #D_FRAME
	str	r2, [sp, #D_OUT]
	ldrh	r4, [r3, #L_INPUT]
	ldrh	r5, [r3, #L_UNITS]
	lsls	r6, r5, #1
	adds	r6, r6, r2
	str	r6, [sp, #D_END]
	adds	r6, r4, #1
	lsrs	r6, r6, #1
	lsls	r6, r6, #3
	mov	r12, r6			@ bytes of four rows
	adds	r5, #3
	lsrs	r5, r5, #2
	muls	r5, r6, r5
	adds	r5, r5, r0
	str	r5, [sp, #D_PARAMS]
	lsls	r4, r4, #1
	adds	r1, r1, r4		@ the end of x, and minus its length
	negs	r4, r4
	mov	lr, r4
1:	str	r0, [sp, #D_ROW]
	movs	r3, #128
	adds	r2, r0, #1
	lsls	r2, r2, #30
	bne	2f
	movs	r3, #0			@ the last row of four is not biased
2:	mov	r2, lr
	movs	r7, #0
3:	ldrb	r4, [r0]
	eors	r4, r3
	sxtb	r4, r4
	ldrsh	r5, [r1, r2]
	muls	r4, r5, r4
	adds	r7, r7, r4
	adds	r0, #4
	adds	r2, #2
	bne	3b
	ldr	r0, [sp, #D_PARAMS]
	ldm	r0!, {r3, r4}
	str	r0, [sp, #D_PARAMS]
	@ r7 = bias + floor(r7 * m / 2^32)
	uxth	r5, r3
	lsrs	r3, r3, #16
	uxth	r6, r7
	asrs	r7, r7, #16
	movs	r0, r5
	muls	r0, r6, r0
	lsrs	r0, r0, #16
	muls	r5, r7, r5
	adds	r0, r0, r5		@ ah ml + (al ml >> 16): fits
	muls	r6, r3, r6
	muls	r7, r3, r7
	uxth	r5, r0
	adds	r6, r6, r5		@ al mh + low half: fits unsigned
	lsrs	r6, r6, #16
	asrs	r0, r0, #16
	adds	r7, r7, r0
	adds	r7, r7, r6
	adds	r7, r7, r4
	movs	r3, #128
	lsls	r3, r3, #8
	adds	r7, r7, r3
	adds	r4, r3, r3
	subs	r4, #1
	CLAMP	r7, r5, r4
	subs	r7, r7, r3
	ldr	r2, [sp, #D_OUT]
	strh	r7, [r2]
	adds	r2, #2
	str	r2, [sp, #D_OUT]
	ldr	r0, [sp, #D_ROW]
	adds	r0, #1
	lsls	r3, r0, #30
	bne	4f
	subs	r0, #4
	add	r0, r12
4:	ldr	r3, [sp, #D_END]
	cmp	r2, r3
	bne	1b
	add	sp, #D_FRAME
	pop	{r4-r7, pc}
	.size	gru_quad_dense, . - gru_quad_dense
